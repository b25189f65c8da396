"""A model's weights and gradients as a candidate sees them: in a secret order.

Rows and columns of every weight, and the places of every vector, are shuffled before they are
shown, and put back afterwards. For an update that treats elements alike this changes nothing, to
the bit, and for one that works on whole matrices nothing but rounding. But weights that a candidate
carries in its file, or has kept from another training, land in the wrong places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from nos_repro.score.process import RemoteOptimizer


def secret_number(key: str, *parts: object) -> int:
    """A number below 2^62 that follows from a key and from what it is for."""
    text = "\0".join([key, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2


class Exchange:
    """Carries gradients to a candidate and weights back. All parameters are float32."""

    def __init__(self, params: Sequence[Parameter], remote: RemoteOptimizer, secret: int) -> None:
        self.params = list(params)
        self.remote = remote
        source = torch.Generator().manual_seed(secret)
        orders, start = [], 0
        for p in self.params:
            orders.append(start + _order(p.shape, source))
            start += p.numel()
        self._order = torch.cat(orders)
        self._back = torch.argsort(self._order)
        self._sizes = [p.numel() for p in self.params]

    def show_weights(self) -> None:
        """Puts the model's weights in place for the candidate."""
        self._put(self.remote.weights, [p.detach() for p in self.params])

    def update(self) -> None:
        """Has the candidate make one update with the parameters' gradients."""
        gradients, without = [], []
        for number, p in enumerate(self.params):
            if p.grad is None:
                without.append(number)
            gradients.append(torch.zeros_like(p) if p.grad is None else p.grad)
        self._put(self.remote.gradients, gradients)
        self.remote.step(without)
        self.take_weights()

    def take_weights(self) -> None:
        """Gives the model the weights that the candidate has put in place."""
        flat = self.remote.weights.index_select(0, self._back)
        with torch.no_grad():
            for p, part in zip(self.params, torch.split(flat, self._sizes), strict=True):
                p.copy_(part.view(p.shape))

    def _put(self, place: Tensor, values: Iterable[Tensor]) -> None:
        flat = torch.cat([value.reshape(-1) for value in values])
        torch.index_select(flat, 0, self._order, out=place)


def _order(shape: torch.Size, source: torch.Generator) -> Tensor:
    """The places of a tensor's elements, its first two dimensions shuffled."""
    places = torch.arange(shape.numel()).view(shape)
    for dimension in range(min(2, len(shape))):
        shuffled = torch.randperm(shape[dimension], generator=source)
        places = places.index_select(dimension, shuffled)
    return places.reshape(-1)
