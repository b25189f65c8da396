"""Which element of its whole parameter each flat element is: what a draw depends on.

The place of an element is its row-major index in the whole logical tensor, whatever its layout in
memory and however it is sharded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nos_repro.optim.sharding import local_indices, local_part

LANES = 16  # elements per row in the fused kernel: vector code then has no remainder


@dataclass(frozen=True)
class RowPlaces:
    """The places of rows of LANES elements: `bases` [rows, 1], plus `stride` per element."""

    bases: Tensor
    stride: int


@dataclass(frozen=True)
class Places:
    """The places of a flat tensor of `count` elements.

    axes: for every dimension, from the slowest in memory to the fastest, what each of its indices
    adds to a place. None if the places are 0, 1, 2, ...
    """

    count: int
    device: torch.device
    axes: tuple[Tensor, ...] | None = None

    def between(self, start: int, end: int) -> Tensor:
        """The places of the flat elements from `start` to `end`, as int64."""
        rest = torch.arange(start, end, device=self.device)
        if self.axes is None:
            return rest
        places = torch.zeros_like(rest)
        for axis in reversed(self.axes):
            places += axis[rest % len(axis)]
            rest = rest // len(axis)
        return places

    @cached_property
    def rows(self) -> RowPlaces | None:
        """The places of all whole rows; None if a row's elements are not evenly spaced."""
        whole = self.count - self.count % LANES
        if self.axes is None:
            return RowPlaces(torch.arange(0, whole, LANES, device=self.device).view(-1, 1), 1)
        if whole == 0:
            return None
        places = self.between(0, whole).view(-1, LANES)
        bases = places[:, :1].clone()
        stride = int(places[0, 1] - places[0, 0])
        even = bases + torch.arange(LANES, device=self.device) * stride
        return RowPlaces(bases, stride) if torch.equal(places, even) else None


def places_of(p: Tensor, order: Sequence[int]) -> Places:
    """The places of a parameter's local elements, flattened with its dimensions in this order."""
    part, indices = local_part(p), local_indices(p)
    if indices is None and list(order) == sorted(order):
        return Places(part.numel(), part.device)
    if indices is None:
        indices = [torch.arange(n, device=part.device) for n in p.shape]
    axes = [indices[d] * math.prod(p.shape[d + 1 :]) for d in order]
    return Places(part.numel(), part.device, tuple(axes))
