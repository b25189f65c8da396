"""Batches cut out of an image set: a random crop and flip with one gather, then normalisation.

The draws of a batch are a pure function of (seed, epoch, batch), so a run that resumes in the
middle of an epoch sees what it would have seen anyway. Nothing is padded in memory: the gather's
indices are reflected instead, and the array may stay on disk (memory-mapped).
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

PADDING = 4
"""Zagoruyko & Komodakis: reflected by 4 on each side, so 9 x 9 = 81 offsets."""

ORDER, CROPS = 1, 2
"""First words of the seeds: they keep the streams of one (seed, epoch) apart."""


class Crops(NamedTuple):
    """Where each image of a batch is cut from its padded form, and whether it is mirrored."""

    top: Int64[Tensor, " batch"]
    left: Int64[Tensor, " batch"]
    flipped: Bool[Tensor, " batch"]


def epoch_order(images: int, seed: int, epoch: int) -> Int64[Tensor, " images"]:
    """The order in which an epoch visits the training images."""
    return torch.from_numpy(np.random.default_rng([ORDER, seed, epoch]).permutation(images))


def draw_crops(images: int, seed: int, epoch: int, batch: int) -> Crops:
    """Uniform offsets in 0..8 and a fair coin, for each image of a batch."""
    generator = np.random.default_rng([CROPS, seed, epoch, batch])
    offsets = torch.from_numpy(generator.integers(0, 2 * PADDING + 1, size=(2, images)))
    flipped = torch.from_numpy(generator.integers(0, 2, size=images).astype(bool))
    return Crops(offsets[0], offsets[1], flipped)


def sent(
    chosen: Int64[Tensor, " batch"], crops: Crops | None, device: torch.device
) -> tuple[Int64[Tensor, " batch"], Crops | None]:
    """The choice of a batch and its crops on a device: one copy, for which the host does not
    wait."""
    rows = [chosen] if crops is None else [chosen, crops.top, crops.left, crops.flipped.long()]
    packed = torch.stack(rows)
    if device.type == "cuda":
        packed = packed.pin_memory()
    moved = packed.to(device, non_blocking=True)
    return moved[0], None if crops is None else Crops(moved[1], moved[2], moved[3] != 0)


def cut(
    images: UInt8[Tensor, "images size size 3"], chosen: Int64[Tensor, " batch"], crops: Crops
) -> UInt8[Tensor, "batch size size 3"]:
    """The chosen images: padded by reflection, cropped, and mirrored where `crops` says so."""
    size, device = images.shape[1], images.device
    line = torch.arange(size, device=device)
    padded = _reflected(size, device)
    rows = padded[crops.top[:, None] + line]
    columns = padded[
        crops.left[:, None] + torch.where(crops.flipped[:, None], size - 1 - line, line)
    ]
    pixels = (chosen * size * size)[:, None, None] + rows[:, :, None] * size + columns[:, None, :]
    return images.view(-1, 3).index_select(0, pixels.view(-1)).view(-1, size, size, 3)


def _reflected(size: int, device: torch.device) -> Int64[Tensor, " padded"]:
    """For each place of the padded line the place that it mirrors: 4 3 2 1 0 1 ... 31 30 29 ..."""
    places = torch.arange(-PADDING, size + PADDING, device=device).abs()
    return torch.where(places < size, places, 2 * (size - 1) - places)


class Normalise:
    """(x - mean) / std per channel, as one multiply-add over all values of each image."""

    def __init__(
        self, mean: tuple[float, float, float], std: tuple[float, float, float], size: int
    ) -> None:
        scale = 1 / torch.tensor(std, dtype=torch.float64)
        shift = -torch.tensor(mean, dtype=torch.float64) * scale
        self.scale = scale.float().repeat(size * size)
        self.shift = shift.float().repeat(size * size)

    def to(self, device: torch.device) -> Normalise:
        """The same on another device."""
        other = copy.copy(self)
        other.scale, other.shift = self.scale.to(device), self.shift.to(device)
        return other

    def __call__(
        self, images: UInt8[Tensor, "batch size size 3"]
    ) -> Float[Tensor, "batch 3 size size"]:
        """Float images; their memory stays channels-last, as a view of [batch, size, size, 3]."""
        values = images.reshape(len(images), -1).float()
        return torch.addcmul(self.shift, values, self.scale).view(images.shape).permute(0, 3, 1, 2)
