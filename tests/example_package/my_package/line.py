"""A task with a metric of its own: a line through points with noise.

task: {name: my_package.line, points: 256}
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from my_package.drawing import draw_points
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import OptimizerMaker, Task, TaskData, require
from nos_repro.tasks.metrics import Metric, Tolerance, half_at

MSE = Metric(
    "mse",
    "min",
    "mm²",
    Tolerance(0.1, why="mm², what the ruler resolves"),
    digits=3,
    range=(0.0, math.inf),
    to_reward=half_at(0.1),
)


@dataclass(frozen=True)
class LineSettings:
    """The task's section of a settings file."""

    points: int = 256
    batch_size: int = 16

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        require(self.points >= self.batch_size, "points", "at least one batch", self.points)


class LineData(TaskData):
    """Batches of points, in another order each epoch."""

    def __init__(self, settings: LineSettings, seed: int) -> None:
        super().__init__()
        self.settings = settings
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        return self.settings.points // self.settings.batch_size

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = draw_points(self.settings.points, seed=0)
        generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
        order = torch.randperm(len(x), generator=generator)
        for batch in order.split(self.settings.batch_size)[start : self.steps_per_epoch]:
            yield x[batch], y[batch]

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield draw_points(64, seed=1)

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield draw_points(64, seed=2)


@TASKS.register("line")
class Line(Task):
    """y = a x + b by gradient descent; one who has learned nothing says 0."""

    Settings = LineSettings
    measures = (MSE,)
    label = "a line through {points} points"

    def __init__(
        self, settings: LineSettings, make_optimizer: OptimizerMaker | None = None
    ) -> None:
        super().__init__(settings, make_optimizer)
        self.line = torch.nn.Linear(1, 1)

    @classmethod
    def make_data(cls, settings: LineSettings, *, data_dir: Path, seed: int) -> LineData:
        return LineData(settings, seed)

    @classmethod
    def chance(cls, settings: LineSettings) -> float:
        return float(draw_points(64, seed=1)[1].square().mean())

    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        x, y = batch
        return F.mse_loss(self.line(x), y)

    def evaluation_sums(self, batch: Any) -> dict[str, Tensor]:
        x, y = batch
        error = (self.line(x) - y).square().sum().detach()
        return {"error": error, "count": torch.tensor(len(y))}

    @staticmethod
    def metrics(sums: dict[str, float]) -> dict[str, float]:
        error = sums["error"] / sums["count"]
        return {"mse": error, "loss": error}
