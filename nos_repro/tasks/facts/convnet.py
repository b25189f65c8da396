"""The small ConvNet of sec. 4.2: its settings and its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from nos_repro.tasks.facts.base import SPEED, require
from nos_repro.tasks.facts.images import ImageFacts, ImageSettings
from nos_repro.tasks.registry import FACTS


class Head(NamedTuple):
    """What each of the two layers does to the image's side, and what is left of it at the end."""

    stride: int
    pool: int
    left: Callable[[int], int]


# fmt: off
HEADS = {
    "pool":   Head(1, 2, lambda size: size // 4),
    "flat":   Head(1, 1, lambda size: size),
    "stride": Head(2, 1, lambda size: (size + 3) // 4),
    "global": Head(1, 1, lambda size: 1),
}
# fmt: on


@dataclass(frozen=True)
class ConvNetSettings(ImageSettings):
    """Sec. 4.2: batch 100. The paper does not mention augmentation."""

    head: str = "pool"
    """What follows each convolution: `pool` (2x2 max pool), `flat` (nothing), `stride` (stride 2),
    or `global` (average over the whole map at the end)."""
    fused: bool = field(default=False, metadata=SPEED)
    """Max pool, ReLU and batch norm as one layer of C, 1.3x as fast on one core; needs
    `channels_last`. It differs from the three in rounding alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.head in HEADS, "head", f"one of: {' '.join(HEADS)}", f"'{self.head}'")
        require(self.channels_last or not self.fused, "fused", "false without channels_last", True)


@FACTS.register("convnet")
class ConvNetFacts(ImageFacts):
    """The small ConvNet."""

    Settings: ClassVar[type[Any]] = ConvNetSettings
    label: ClassVar[str] = "small ConvNet"
