"""Wide ResNet: its settings and its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nos_repro.tasks.facts.base import SPEED, require
from nos_repro.tasks.facts.images import ImageFacts, ImageSettings
from nos_repro.tasks.registry import FACTS


@dataclass(frozen=True)
class WideResNetSettings(ImageSettings):
    """WRN-40-4, batch 128, mirrored and cropped: Zagoruyko & Komodakis' recipe."""

    depth: int = 40
    """Layers: 6n + 4."""
    width: int = 4
    """The factor on the number of filters."""
    augment: bool = True
    """Mirror, and crop from the image padded by 4 reflected pixels."""
    batch_size: int = 128
    """Images per update."""
    fused: bool = field(default=False, metadata=SPEED)
    """Batch norm and ReLU as one layer of C, for one core; needs `channels_last`. It differs from
    the two in rounding alone."""
    zero_bias: bool = False
    """Whether the biases of the linear layer start at 0, as the authors' do; else as torch's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.depth >= 10 and self.depth % 6 == 4
        require(fits, "depth", "6n+4 (10, 16, 22, 28, 34, 40 ...)", self.depth)
        require(self.width >= 1, "width", "at least 1", self.width)
        require(self.channels_last or not self.fused, "fused", "false without channels_last", True)


@FACTS.register("wide_resnet")
class WideResNetFacts(ImageFacts):
    """WRN-depth-width."""

    Settings: ClassVar[type[Any]] = WideResNetSettings
    label: ClassVar[str] = "WRN-{depth}-{width}"
