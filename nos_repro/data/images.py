"""Image sets in memory, and their registry."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nos_repro.data.files import refusals_named
from nos_repro.errors import ConfigError
from nos_repro.registry import Registry, require_call, require_result

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8
    from torch import Tensor

SPLIT_SEED = 2017
"""Seed of every fixed split. It is not a setting: all trials of all studies hold out the same."""


class Labelled(NamedTuple):
    """Images and their classes, as they were decoded."""

    images: UInt8[Tensor, "images height width 3"]
    labels: Int64[Tensor, " images"]


class ImageSet(NamedTuple):
    """A whole data set; `mean` and `std` are per channel, of pixels in [0, 255]."""

    train: Labelled
    test: Labelled
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Dataset:
    """What is known about a data set before it is read: its square RGB images, their classes."""

    name: str
    classes: int
    size: int
    validation_images: int
    """Held out of the training images unless a study says otherwise."""
    read: Callable[[Path], ImageSet]
    """Reads the set from the folder of all data sets. Raises DataError."""


def _dataset(
    name: str,
    read: Callable[[Path], ImageSet],
    *,
    classes: int,
    size: int = 32,
    validation_images: int,
) -> Dataset:
    @functools.wraps(read)
    def checked(data_dir: Path) -> ImageSet:
        with refusals_named(data_dir):
            images = read(data_dir)
        _check_images(name, require_result(f"image set {name}", images, ImageSet), classes, size)
        return images

    return Dataset(name, classes, size, validation_images, functools.cache(checked))


def _check_images(name: str, images: ImageSet, classes: int, size: int) -> None:
    """Raises ConfigError unless a set is what its decorator says."""
    import torch

    for part, (pixels, labels) in (("train", images.train), ("test", images.test)):
        shape = (len(labels), size, size, 3)
        if pixels.dtype != torch.uint8 or pixels.shape != shape:
            raise ConfigError(
                f"image set {name}: its {part} images must be uint8 of shape {shape}, got"
                f" {str(pixels.dtype).removeprefix('torch.')} of shape {tuple(pixels.shape)}"
            )
        if not len(labels):
            raise ConfigError(f"image set {name}: it has no {part} images")
        if labels.dtype != torch.int64 or not 0 <= labels.min() <= labels.max() < classes:
            raise ConfigError(
                f"image set {name}: its {part} labels must be int64, from 0 to {classes - 1}"
            )


def _check(name: str, dataset: Dataset) -> None:
    require_call(f"image set {name}", dataset.read, "(data_dir) -> ImageSet", Path())


IMAGES: Registry[Dataset] = Registry(
    "image set", "nos_repro.data", build=_dataset, check=_check, key="task.data"
)
"""Its decorator makes `data: NAME` mean the image set that a function reads:

    @IMAGES.register("stripes", classes=2, size=8, validation_images=4)
    def read(data_dir): ...

The function is called once per process and data folder; its result is kept."""


def balanced_order(labels: Int64[Tensor, " images"]) -> Int64[Tensor, " images"]:
    """A fixed shuffle in which every prefix holds the classes in their overall proportions.

    Each class is shuffled by itself, and its i-th of n images takes the place (i + 1/2) / n. So
    "the first 5,000" is a stratified split, and the images after it a class-balanced subset.
    """
    import numpy as np
    import torch

    classes = labels.numpy()
    generator = np.random.default_rng(SPLIT_SEED)
    place = np.empty(len(classes))
    for label in np.unique(classes):
        members = generator.permutation(np.flatnonzero(classes == label))
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return torch.from_numpy(np.argsort(place, kind="stable"))


def channel_statistics(
    images: UInt8[Tensor, "images height width 3"],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel, exact, from the counts of the 256 values."""
    import torch

    values = torch.arange(256, dtype=torch.float64)
    means, stds = [], []
    for channel in range(3):
        counts = torch.bincount(images[..., channel].flatten(), minlength=256).double()
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / counts.sum()
        means.append(float(mean))
        stds.append(float(variance.sqrt()))
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
