"""What the small ConvNet and the Wide ResNet share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nos_repro.data.images import IMAGES
from nos_repro.tasks.facts.base import PRECISION, SPEED, TaskFacts, require
from nos_repro.tasks.metrics import ACCURACY, LOSS, Metric

PRECISIONS = ("32", "bf16")


@dataclass(frozen=True)
class ImageSettings:
    """The part of an image task's YAML section that is not about its model."""

    data: str = "cifar10"
    """A set of images: `cifar10`, `digits`, or a module of your own."""
    train_images: int | None = None
    """A fixed class-balanced subset of the images that validation leaves; None: all of them."""
    validation_images: int | None = None
    """None: the data set's own number, 5,000 for CIFAR-10, 300 for the digits."""
    augment: bool = False
    """Mirror, and crop from the image padded by 4 reflected pixels."""
    batch_size: int = 100
    """Images per update."""
    channels_last: bool = field(default=False, metadata=SPEED)
    """Keep images as height, width, channels in memory; faster on most machines."""
    precision: str = field(default="32", metadata=PRECISION)
    """"32", or "bf16": bfloat16 autocast of the forward pass."""

    def __post_init__(self) -> None:
        IMAGES.check(self.data)
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        require(
            self.train_images is None or self.train_images >= self.batch_size,
            "train_images",
            f"at least one batch of {self.batch_size}",
            self.train_images,
        )
        require(
            self.validation_images is None or self.validation_images >= 1,
            "validation_images",
            "at least 1",
            self.validation_images,
        )
        require(
            self.precision in PRECISIONS,
            "precision",
            f"one of: {' '.join(PRECISIONS)}",
            f"'{self.precision}'",
        )


class ImageFacts(TaskFacts):
    """A classifier of images."""

    Settings: ClassVar[type[Any]] = ImageSettings
    measures: ClassVar[tuple[Metric, ...]] = (ACCURACY, LOSS)

    @classmethod
    def chance(cls, settings: ImageSettings) -> float:
        return 100 / _classes(settings.data)

    @classmethod
    def code(cls, settings: ImageSettings) -> tuple[str, ...]:
        return IMAGES.origins(settings.data)


def image_size(name: str) -> int:
    """The side of a set's images in pixels."""
    size: int = IMAGES.entry(name).facts.get("size", 32)
    return size


def _classes(name: str) -> int:
    classes: int = IMAGES.entry(name).facts["classes"]
    return classes
