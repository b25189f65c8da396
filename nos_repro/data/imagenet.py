"""ImageNet and other sets of photographs in class folders: found, and cut into batches.

A tree has the usual layout, `train/<class>/*.JPEG` and `val/<class>/*.JPEG` (or `test/`), with
images of any size and shape, in the data folder or at an absolute path. torchvision's ImageNet is
such a tree; if its `meta.bin` is there, the tree is also checked to be complete.

Only the images that a batch shows are decoded. A training batch is a pure function of (seed, epoch,
image): a run that resumes inside an epoch, or on other processes, sees exactly what was left.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from nos_repro.data.batches import epoch_order
from nos_repro.data.pictures import show
from nos_repro.data.trees import ImageTree, ImageTrees, find_images
from nos_repro.data.views import JITTER, Size, View, central_view, draw_view
from nos_repro.data.workers import in_order

__all__ = ["ImageTree", "ImageTrees", "eval_batches", "find_images", "train_batches"]

LabelledPixels = tuple[UInt8[Tensor, "batch 3 size size"], Int64[Tensor, " batch"]]

VIEWS = 3
"""First word of a view's seed; `batches` has the other ones."""

PIECE = 32
"""Images that a worker makes at a time: several workers share a large batch."""


class _Piece(NamedTuple):
    """A worker's job: some images of a batch, and their files."""

    images: list[int]
    files: list[str]


def train_batches(
    images: ImageTree,
    *,
    size: int,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    jitter: Mapping[str, float] = JITTER,
) -> Iterator[LabelledPixels]:
    """The batches of one epoch from batch `start` on: random resized crop, mirror, colour jitter.

    Images that do not fill a batch are left out, different ones each epoch. `batch_size` counts all
    `world` processes together and is a multiple of their number; each makes only its own slice.
    `workers` processes make the batches in advance; with 0, this one makes them on demand.
    The pixels' memory is channels-last.

    Raises DataError, which names the file, if one cannot be used.
    """
    assert batch_size % world == 0, (batch_size, world)
    order = epoch_order(len(images), seed, epoch)
    share = batch_size // world
    chosen = (
        order[k * batch_size + rank * share :][:share]
        for k in range(start, len(order) // batch_size)
    )
    draw = functools.partial(_training_view, seed=seed, epoch=epoch, jitter=dict(jitter))
    return _batches(images, chosen, draw, size, workers, share)


def eval_batches(
    images: ImageTree, *, size: int, batch_size: int, workers: int = 0
) -> Iterator[LabelledPixels]:
    """All images in order, the central 87.5 % of each side; the last batch may be short.

    Raises DataError, which names the file, if one cannot be used.
    """
    chosen = torch.split(torch.arange(len(images)), batch_size)
    return _batches(images, chosen, _central_view, size, workers, batch_size)


def _training_view(
    image: int, shape: Size, *, seed: int, epoch: int, jitter: Mapping[str, float]
) -> View:
    return draw_view(np.random.default_rng([VIEWS, seed, epoch, image]), shape, jitter)


def _central_view(image: int, shape: Size) -> View:
    return central_view(shape)


def _batches(
    images: ImageTree,
    batches: Iterable[Tensor],
    view: Callable[[int, Size], View],
    size: int,
    workers: int,
    batch_size: int,
) -> Iterator[LabelledPixels]:
    """Each batch of places as pixels and labels; the workers get file names and return pixels."""
    labels: list[Tensor] = []

    def pieces() -> Iterator[_Piece]:
        for batch in batches:
            labels.append(images.labels[batch])
            for places in torch.split(batch, PIECE):
                some = places.tolist()
                yield _Piece(some, [images.path(place) for place in some])

    make = functools.partial(_make, view=view, size=size)
    made = in_order(make, pieces(), workers, pieces_ahead(batch_size, workers))
    for first in made:
        own = labels.pop(0)
        parts = [first]
        while sum(len(part) for part in parts) < len(own):
            parts.append(next(made))
        yield (first if len(parts) == 1 else torch.cat(parts)), own


def pieces_ahead(batch_size: int, workers: int) -> int:
    """Pieces handed to each worker in advance: its part of a batch and one more, so that no worker
    idles while the GPU is given its work."""
    pieces = math.ceil(batch_size / PIECE)
    return 1 + math.ceil(pieces / max(workers, 1))


def _make(
    piece: _Piece, *, view: Callable[[int, Size], View], size: int
) -> UInt8[Tensor, "images 3 size size"]:
    """The transformed images of one piece."""
    pixels = torch.empty(len(piece.images), size, size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    for target, image, file in zip(pixels, piece.images, piece.files, strict=True):
        show(file, functools.partial(view, image), target)
    return pixels
