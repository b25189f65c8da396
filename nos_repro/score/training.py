"""A candidate trains a task: gradients here, updates in the candidate's process."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from nos_repro.experiments.load import task_section
from nos_repro.experiments.trial import make_settings
from nos_repro.score.candidate import Submission
from nos_repro.score.exchange import Exchange, secret_number
from nos_repro.score.process import Nursery
from nos_repro.score.settings import ScoreTask
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import Task, TaskData

Point = tuple[int, float]


@dataclass(frozen=True)
class Trained:
    """``curve``: the validation loss after so many updates, the first before any; up to where it
    stopped being finite. ``value`` is its last point, infinite where the training diverged.
    ``validation`` and ``test`` are the task's metrics at the end."""

    curve: list[Point]
    value: float
    validation: dict[str, float]
    test: dict[str, float]
    step_seconds: float

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.value)


class Trainer:
    """A task of a scoring file, with its data, trained by one candidate after another."""

    def __init__(self, name: str, declared: ScoreTask, data_dir: Path) -> None:
        self.name = name
        self.declared = declared
        self.data_dir = data_dir
        there = not declared.needs or any((data_dir / each).exists() for each in declared.needs)
        section = declared.task if there else {**declared.task, **declared.stand_in}
        self.section: dict[str, Any] = task_section(section)
        self.stands_in = not there
        values = {key: value for key, value in self.section.items() if key != "name"}
        self.settings = make_settings(self.section["name"], values)
        self.cls: type[Task] = TASKS.find(self.section["name"])
        self._data: dict[int, TaskData] = {}

    def data(self, seed: int) -> TaskData:
        """The data of a seed, prepared. Raises what the task raises."""
        if seed not in self._data:
            made = self.cls.make_data(self.settings, data_dir=self.data_dir, seed=seed)
            made.prepare()
            self._data[seed] = made
        return self._data[seed]

    @cached_property
    def steps(self) -> int:
        """Updates of a training."""
        return self.declared.epochs * self.data(0).steps_per_epoch

    def train(
        self, candidate: Submission, nursery: Nursery, lr: float, seed: int, key: str, *, test: bool
    ) -> Trained:
        """One training. Weights, batches and the order in which the candidate sees the weights
        follow from ``seed`` and ``key``. Raises Fault and OutOfTime."""
        hidden = secret_number(key, self.name, seed) if key else seed
        data = self.data(hidden % 2**31 if key else seed)
        torch.manual_seed(hidden)
        task = self.cls(self.settings)
        named = [(name, p) for name, p in task.named_parameters() if p.requires_grad]
        shapes = [(name, p.shape) for name, p in named]
        order = secret_number(key, self.name, seed, lr, candidate.digest)
        with nursery.start(candidate, shapes, hidden) as remote:
            exchange = Exchange([p for _, p in named], remote, order)
            exchange.show_weights()
            remote.make(lr=lr, total_steps=self.steps)
            run = _Run(task, data, exchange, self.declared)
            curve = run.train(hidden)
            remote.call("check")
            finished = len(curve) > 1 and curve[-1][0] == self.steps
            measured = run.metrics("val") if finished else {}
            tested = run.metrics("test") if finished and test else {}
        value = curve[-1][1] if finished else math.inf
        return Trained(curve, value, measured, tested, run.seconds / max(1, run.step))


class _Run:
    """A training in progress."""

    def __init__(self, task: Task, data: TaskData, exchange: Exchange, declared: ScoreTask) -> None:
        self.task = task
        self.data = data
        self.exchange = exchange
        self.declared = declared
        self.params: Sequence[Parameter] = exchange.params
        self.total = declared.epochs * data.steps_per_epoch
        self.step = 0
        self.seconds = 0.0
        """What the candidate's updates take, with their way there and back."""

    def train(self, seed: int) -> list[Point]:
        """The curve of the validation loss, up to where a loss is not finite."""
        curve = [(0, self.loss())]
        self.task.train()
        for epoch in range(self.declared.epochs):
            for k, batch in enumerate(self.data.train_batches(epoch)):
                torch.default_generator.manual_seed((seed + self.step) % 2**62)
                if not self._update(batch, k):
                    return curve
                if self.step % self.declared.evaluate_every == 0 or self.step == self.total:
                    value = self.loss()
                    if not math.isfinite(value):
                        return curve
                    curve.append((self.step, value))
        return curve

    def _update(self, batch: Any, k: int) -> bool:
        """Whether the loss was finite."""
        for p in self.params:
            p.grad = None
        loss = self.task.training_step(batch, k)
        if not bool(loss.isfinite()):
            return False
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self.declared.gradient_norm
        if norm is not None:
            torch.nn.utils.clip_grad_norm_(self.params, norm)
        started = time.perf_counter()
        self.exchange.update()
        self.seconds += time.perf_counter() - started
        self.step += 1
        return True

    def loss(self) -> float:
        """The validation loss with the weights that the candidate wants evaluated; of a task that
        measures none, its first metric, turned so that less is better."""
        measured = self.metrics("val")
        if "loss" in measured:
            return measured["loss"]
        metric = type(self.task).measures[0]
        return -metric.sign * measured[metric.name]

    def metrics(self, part: str) -> dict[str, float]:
        remote = self.exchange.remote
        if remote.modes:
            remote.call("mode", mode="eval")
            self.exchange.take_weights()
        self.task.eval()
        sums: dict[str, Tensor] = {}
        with torch.no_grad():
            for batch in self._held_out(part):
                for name, value in self.task.evaluation_sums(batch).items():
                    sums[name] = sums[name] + value if name in sums else value.double()
        self.task.train()
        if remote.modes:
            remote.call("mode", mode="train")
            self.exchange.take_weights()
        return self.task.metrics({name: float(value) for name, value in sums.items()})

    def _held_out(self, part: str) -> Iterator[Any]:
        batches = self.data.val_batches() if part == "val" else self.data.test_batches()
        return itertools.islice(batches, self.declared.validation_batches)
