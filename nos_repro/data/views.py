"""Views of a photograph: where it is cropped, whether it is mirrored, how its colours change.

The distributions are those of torchvision's `RandomResizedCrop`, `RandomHorizontalFlip` and
`ColorJitter`; NumPy draws from them, with one generator per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

AREA = (0.08, 1.0)
"""The share of the image that a training crop covers; Szegedy et al. 2014."""
ASPECT = (3 / 4, 4 / 3)
"""Width over height of a training crop."""
TRIES = 10
"""Crops drawn until one lies within the image; then the largest central one of a legal aspect."""

CENTRAL = 0.875
"""The share of each side that an evaluation shows: 224 of 256."""

JITTER: Mapping[str, float] = MappingProxyType({"brightness": 32 / 255, "saturation": 0.5})
"""Each factor is drawn from 1 - x to 1 + x, and the order of the steps is drawn too.

*Departure*: the paper names no augmentation. These are the two steps and strengths of the fast form
of Inception's preprocessing, with which NASNet-A's authors released their training code; there
brightness is added, here it multiplies, as in torchvision.
"""

GREY = (0.2989, 0.587, 0.114)
"""Luma of red, green and blue; ITU-R BT.601 as torchvision rounds it."""


class Size(NamedTuple):
    """The size of an image in pixels."""

    height: int
    width: int


class Box(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    def scaled(self, factor: int, size: Size) -> Box:
        """The nearest rectangle within an image `factor` times smaller, which has this size."""
        top = min(round(self.top / factor), size.height - 1)
        left = min(round(self.left / factor), size.width - 1)
        bottom = min(round((self.top + self.height) / factor), size.height)
        right = min(round((self.left + self.width) / factor), size.width)
        return Box(top, left, max(bottom - top, 1), max(right - left, 1))


class View(NamedTuple):
    """One augmented view of an image; `colours` are steps of COLOURS with factors, in order."""

    box: Box
    mirrored: bool = False
    colours: tuple[tuple[str, float], ...] = ()


def draw_view(generator: np.random.Generator, size: Size, jitter: Mapping[str, float]) -> View:
    """A random view of an image of this size, for training."""
    draws = iter(generator.random(2 * TRIES + 3 + 2 * len(jitter)).tolist())
    box = _draw_box(draws, size)
    mirrored = next(draws) < 0.5
    steps = [(next(draws), name, 1 + x * (2 * next(draws) - 1)) for name, x in jitter.items()]
    return View(box, mirrored, tuple((name, factor) for _, name, factor in sorted(steps)))


def _draw_box(draws: Iterator[float], size: Size) -> Box:
    """A crop whose area is uniform and whose aspect is uniform in its logarithm."""
    height, width = size
    down, across = next(draws), next(draws)
    tries = [(next(draws), next(draws)) for _ in range(TRIES)]
    for a, b in tries:
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * a)
        aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** b
        crop = Size(round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect)))
        if 0 < crop.height <= height and 0 < crop.width <= width:
            top = int(down * (height - crop.height + 1))
            left = int(across * (width - crop.width + 1))
            return Box(top, left, *crop)
    aspect = min(max(width / height, ASPECT[0]), ASPECT[1])
    crop = Size(min(height, round(width / aspect)), min(width, round(height * aspect)))
    return _central(size, crop)


def central_view(size: Size) -> View:
    """The centre of an image, as an evaluation shows it, squashed into a square.

    That is what the authors' code (TensorFlow's slim) does: `central_crop` of each side, rounded as
    there. Others crop a square of the shorter side.
    """
    top, left = (int((side - side * CENTRAL) / 2) for side in size)
    return View(Box(top, left, size.height - 2 * top, size.width - 2 * left))


def _central(size: Size, crop: Size) -> Box:
    """A crop of at least one pixel in the middle."""
    crop = Size(max(1, crop.height), max(1, crop.width))
    return Box((size.height - crop.height) // 2, (size.width - crop.width) // 2, *crop)


Pixels = Float[Tensor, "3 height width"]


def _grey(pixels: Pixels, weight: float) -> Float[Tensor, "height width"]:
    grey = pixels[0] * (GREY[0] * weight)
    return grey.add_(pixels[1], alpha=GREY[1] * weight).add_(pixels[2], alpha=GREY[2] * weight)


# fmt: off
COLOURS: dict[str, Callable[[Pixels, float], Tensor]] = {
    # a step mixes every pixel with this value; their two weights add up to 1
    "brightness": lambda pixels, weight: torch.zeros(()),
    "contrast":   lambda pixels, weight: torch.tensor(_grey(pixels, weight).numpy().mean()),
    "saturation": _grey,
}
# fmt: on


def recolour(
    image: UInt8[Tensor, "3 height width"],
    steps: tuple[tuple[str, float], ...],
    target: UInt8[Tensor, "3 height width"],
) -> None:
    """Writes the image into `target`; colours change in float32 and are rounded once at the end."""
    if not steps:
        target.copy_(image)
        return
    pixels = torch.empty(image.shape)
    pixels.copy_(image)
    for name, factor in steps:
        torch.add(COLOURS[name](pixels, 1 - factor), pixels, alpha=factor, out=pixels)
        pixels.clamp_(0, 255)
    target.copy_(pixels.round_().to(torch.uint8))  # faster than changing type and layout at once
