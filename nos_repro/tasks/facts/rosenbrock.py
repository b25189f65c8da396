"""Rosenbrock's function: its settings and its name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from nos_repro.tasks.facts.base import TaskFacts, require
from nos_repro.tasks.metrics import LOSS, Metric
from nos_repro.tasks.registry import FACTS


@dataclass(frozen=True)
class RosenbrockSettings:
    """A walk on the function, from a start."""

    start: tuple[float, float] = (-2.0, 2.0)
    """Where the walk starts."""
    starts: int = 0
    """So many walks at once, from starts that the trial's seed draws; 0: one walk, from `start`."""
    spread: float = 2.0
    """Drawn starts lie within this distance of `start` in each coordinate, all equally likely."""
    steps_per_epoch: int = 20
    """Steps per epoch, a point of the curve."""

    def __post_init__(self) -> None:
        finite = len(self.start) == 2 and all(math.isfinite(x) for x in self.start)
        require(finite, "start", "two finite numbers", self.start)
        require(self.starts >= 0, "starts", "at least 0", self.starts)
        require(0 < self.spread < math.inf, "spread", "positive and finite", self.spread)
        require(self.steps_per_epoch >= 1, "steps_per_epoch", "at least 1", self.steps_per_epoch)


@FACTS.register("rosenbrock")
class RosenbrockFacts(TaskFacts):
    """f(x, y) = (1 - x)^2 + 100 (y - x^2)^2."""

    Settings: ClassVar[type[Any]] = RosenbrockSettings
    measures: ClassVar[tuple[Metric, ...]] = (LOSS,)
    label: ClassVar[str] = "Rosenbrock's function"

    @classmethod
    def chance(cls, settings: RosenbrockSettings) -> float:
        """The value at the start."""
        x, y = settings.start
        left, above = 1 - x, y - x * x  # a product is infinite where a power would be an error
        return left * left + 100 * (above * above)
