"""Rosenbrock's function, on which 002 Figure 5 (000 Figure 6) draws the optimizers' paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nos_repro.tasks.base import OptimizerMaker, Task, TaskData
from nos_repro.tasks.facts.rosenbrock import RosenbrockFacts, RosenbrockSettings
from nos_repro.tasks.registry import TASKS

FOUND = 1e-32
"""Smaller values are rounding: each counts as this much in the mean over several walks."""


class RosenbrockData(TaskData):
    """There is no data: every batch is empty."""

    def __init__(self, steps_per_epoch: int) -> None:
        super().__init__()
        self._steps = steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        return self._steps

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[()]]:
        for _ in range(start, self._steps):
            yield ()

    def val_batches(self) -> Iterator[tuple[()]]:
        yield ()

    def test_batches(self) -> Iterator[tuple[()]]:
        yield ()


@TASKS.register("rosenbrock")
class Rosenbrock(RosenbrockFacts, Task):
    """f(x, y) = (1 - x)^2 + 100 (y - x^2)^2, with its minimum at (1, 1), in float64.

    *Departures*: the papers give no start; (-2, 2) is customary, and f there is 409. Far from the
    valley f grows past every bound: infinity and NaN are values here, not errors.

    Of several walks (`starts`) the loss is the geometric mean of f, since f differs by decades;
    one that diverges makes the trial diverge.
    """

    def __init__(
        self, settings: RosenbrockSettings, make_optimizer: OptimizerMaker | None = None
    ) -> None:
        super().__init__(settings, make_optimizer)
        x, y = (torch.tensor(value, dtype=torch.float64) for value in settings.start)
        if settings.starts:
            there = 2 * torch.rand(2, settings.starts, dtype=torch.float64) - 1
            x, y = x + settings.spread * there[0], y + settings.spread * there[1]
        self.x, self.y = nn.Parameter(x), nn.Parameter(y)

    @classmethod
    def make_data(cls, settings: RosenbrockSettings, *, data_dir: Path, seed: int) -> TaskData:
        return RosenbrockData(settings.steps_per_epoch)

    def forward(self) -> Float[Tensor, "*starts"]:
        return (1 - self.x) ** 2 + 100 * (self.y - self.x**2) ** 2

    def training_step(self, batch: Any = (), batch_idx: int = 0) -> Float[Tensor, ""]:
        loss: Tensor = self()
        return loss.sum() if self.settings.starts else loss  # the walks do not meet

    def evaluation_sums(self, batch: Any = ()) -> dict[str, Tensor]:
        values, x, y = self().detach(), self.x.detach(), self.y.detach()
        if self.settings.starts:
            values, x, y = values.clamp(min=FOUND).log().mean().exp(), x.mean(), y.mean()
        return {"loss": values, "x": x, "y": y, "count": torch.tensor(1)}

    @staticmethod
    def metrics(sums: dict[str, float]) -> dict[str, float]:
        return {key: sums[key] / sums["count"] for key in ("loss", "x", "y")}
