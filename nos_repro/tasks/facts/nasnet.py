"""NASNet-A mobile: its settings, its metrics and its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nos_repro.data.images import IMAGES
from nos_repro.data.trees import PHOTOGRAPHS
from nos_repro.tasks.facts.base import PRECISION, SPEED, TaskFacts, require
from nos_repro.tasks.metrics import ACCURACY, LOSS, TOP5_ACCURACY, Metric
from nos_repro.tasks.registry import FACTS

PRECISIONS = ("32", "bf16")
STEMS = ("imagenet", "cifar")
WIDTH = 24
"""Filters of the last map over those of the first stack's operations: 1056 = 24 * 44."""
AUXILIARY_POOL = 5


@dataclass(frozen=True)
class NASNetSettings:
    """NASNet-A mobile as 002 sec. 6.3 trains it: 50 synchronous replicas of 32 images."""

    data: str = "imagenet"
    """A set of photographs: a folder's name or absolute path, an image set such as `cifar10`, or a
    module of your own."""
    classes: int = 1000
    """The number of classes."""
    size: int = 224
    """Pixels per side that training and evaluation see."""
    cells: int = 4
    """Normal cells in each of the three stacks."""
    filters: int = 1056
    """Filters of the last layer; 1056 is NASNet-A mobile."""
    stem: str = "imagenet"
    """`imagenet` (halves the image three times) or `cifar`."""
    auxiliary: float = 0.4
    """The weight of the auxiliary head's loss; 0: there is no such head."""
    dropout: float = 0.5
    """Before the classifier."""
    label_smoothing: float = 0.1
    """The share of the target that is spread over all classes."""
    norm_decay: float = 0.9997
    """Decay of batch norm's running statistics, once for each replica of an update."""
    average_decay: float = 0.9999
    """Decay of the average of the weights, which evaluation uses."""
    batch_size: int = 1600
    """Images per update, over all processes."""
    replicas: int = 50
    """Equal parts of a batch, each with its own batch norm. Any process may compute a part."""
    replicas_at_once: int = field(default=1, metadata=SPEED)
    """Replicas, at most, that one pass computes: with more, fewer and larger kernels are launched,
    and more memory is taken. processes x passes x replicas_at_once = replicas."""
    steps_per_epoch: int | None = None
    """Updates between evaluations; None: a pass over the images."""
    channels_last: bool = field(default=False, metadata=SPEED)
    """Keep images as height, width, channels in memory; faster on most machines."""
    precision: str = field(default="32", metadata=PRECISION)
    """"32", or "bf16": bfloat16 autocast of the forward pass."""

    def __post_init__(self) -> None:
        for key, least in (("classes", 2), ("size", 8), ("cells", 1), ("batch_size", 1),
                           ("replicas", 1), ("replicas_at_once", 1)):  # fmt: skip
            require(getattr(self, key) >= least, key, f"at least {least}", getattr(self, key))
        require(self.stem in STEMS, "stem", f"one of: {' '.join(STEMS)}", f"'{self.stem}'")
        unit = WIDTH * (4 if self.stem == "imagenet" else 1)
        whole = self.filters >= unit and self.filters % unit == 0
        require(whole, "filters", f"a multiple of {unit} for the stem '{self.stem}'", self.filters)
        for key in ("dropout", "label_smoothing", "norm_decay", "average_decay"):
            value = getattr(self, key)
            require(0 <= value < 1, key, "at least 0 and below 1", value)
        require(self.auxiliary >= 0, "auxiliary", "at least 0", self.auxiliary)
        require(
            self.auxiliary == 0 or inner_side(self.size, self.stem) >= AUXILIARY_POOL,
            "auxiliary",
            f"0: an inner map of images of {self.size} pixels is smaller than its"
            f" {AUXILIARY_POOL}x{AUXILIARY_POOL} pool",
            self.auxiliary,
        )
        require(
            self.batch_size % self.replicas == 0,
            "batch_size",
            f"a multiple of the {self.replicas} replicas that share it",
            f"{self.batch_size:,}",
        )
        steps = self.steps_per_epoch
        require(steps is None or steps >= 1, "steps_per_epoch", "at least 1", steps)
        require(
            self.precision in PRECISIONS,
            "precision",
            f"one of: {' '.join(PRECISIONS)}",
            f"'{self.precision}'",
        )


def inner_side(size: int, stem: str) -> int:
    """The side of the map that the auxiliary head sees, for images of ``size`` pixels."""
    halvings = 1
    if stem == "imagenet":
        size, halvings = (size - 3) // 2 + 1, 3
    for _ in range(halvings):
        size = -(-size // 2)
    return size


@FACTS.register("nasnet")
class NASNetFacts(TaskFacts):
    """NASNet-A on photographs."""

    Settings: ClassVar[type[Any]] = NASNetSettings
    measures: ClassVar[tuple[Metric, ...]] = (ACCURACY, TOP5_ACCURACY, LOSS)
    label: ClassVar[str] = "NASNet-A ({cells} @ {filters})"

    @classmethod
    def chance(cls, settings: NASNetSettings) -> float:
        return 100 / settings.classes

    @classmethod
    def code(cls, settings: NASNetSettings) -> tuple[str, ...]:
        return (*IMAGES.origins(settings.data), *PHOTOGRAPHS.origins(settings.data))
