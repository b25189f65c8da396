"""The small perceptron of the table of rules: its settings and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nos_repro.tasks.facts.base import require
from nos_repro.tasks.facts.images import ImageFacts, ImageSettings, image_size
from nos_repro.tasks.registry import FACTS


@dataclass(frozen=True)
class MLPSettings(ImageSettings):
    """One hidden layer on small grey images: the cheapest child that tells rules apart."""

    data: str = "digits"
    """A set of images: `cifar10`, `digits`, or a module of your own."""
    side: int = 8
    """Images are averaged to this many grey pixels a side; it divides their size."""
    hidden: int = 32
    """Units of the hidden layer."""
    batch_size: int = 20
    """Images per update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        size: int = image_size(self.data)
        fits = self.side >= 1 and size % self.side == 0
        require(fits, "side", f"a divisor of the images' {size} pixels", self.side)
        require(self.hidden >= 1, "hidden", "at least 1", self.hidden)
        require(not self.augment, "augment", "false: the pixels are averaged once", "true")


@FACTS.register("mlp")
class MLPFacts(ImageFacts):
    """A perceptron with one hidden layer."""

    Settings: ClassVar[type[Any]] = MLPSettings
    label: ClassVar[str] = "MLP-{hidden}"
