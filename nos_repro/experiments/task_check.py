"""The verb `check`: whether a task keeps its contract, found out in seconds with a few updates.

What a trial relies on is tried the way a trial does it: batches that can be drawn again, a loss
that the optimizer can lower, metrics in their declared range, two equal runs, a stop that changes
nothing.
"""

from __future__ import annotations

import io
import itertools
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from nos_repro.errors import ConfigError, in_a_line
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.training import Run
from nos_repro.experiments.trial import Training, Trial, make_settings
from nos_repro.tasks.base import TaskData
from nos_repro.tasks.registry import TASKS, describe, find_metric

Status = Literal["passed", "failed", "note"]

FIRST = ("contract", "data", "batches", "loss")
"""Checks without which the others make no sense."""
RATES = (1e-3, 1e-2, 1e-4, 1e-1)
"""Adam's rates that are tried until the loss falls."""
LEARNING_STEPS = 20
SAME_STEPS = 6
"""Updates of the two runs that have to be equal; a third stops half way."""
COUNTING_SECONDS = 5.0
"""The longest that the batches of an epoch are counted."""
EVALUATED = 20
"""Batches of a part that are evaluated."""


class Broken(Exception):
    """A check failed; says why, in a line."""


class Unmet(Exception):
    """Nothing is wrong, but something that others may need is missing."""


@dataclass(frozen=True)
class Checked:
    """What one check found, in a line."""

    check: str
    status: Status
    said: str


@dataclass
class TaskCheck:
    """The checks of a task with its ``settings``, in order: the later ones build on the first."""

    task: str
    settings: dict[str, Any]
    conditions: Conditions
    seed: int = 0
    steps_per_epoch: int = 0
    batch: Any = None
    times: list[float] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)

    def run(self) -> Iterator[Checked]:
        """Each check's finding, as soon as it is there. Stops after a failure of one on which all
        others build."""
        checks: dict[str, Callable[[], str]] = {
            "contract": self.contract,
            "data": self.data,
            "batches": self.batches,
            "loss": self.loss,
            "epoch": self.epoch,
            "learning": self.learning,
            "metrics": self.metrics,
            "reward": self.reward,
            "equal runs": self.equal_runs,
            "resuming": self.resuming,
            "cost": self.cost,
        }
        for name, check in checks.items():
            status: Status = "passed"
            try:
                said = check()
            except Broken as error:
                status, said = "failed", str(error)
            except Unmet as error:
                status, said = "note", str(error)
            except Exception as error:  # noqa: BLE001 a user's task may raise anything
                status, said = "failed", in_a_line(error)
            yield Checked(name, status, said)
            if status == "failed" and name in FIRST:
                return

    def contract(self) -> str:
        found = TASKS.find(self.task)
        measures = ", ".join(metric.name for metric in found.measures)
        return f"{found.__name__} has all that a task must have; it measures {measures}"

    def data(self) -> str:
        settings = make_settings(self.task, self.settings)
        task, folder = TASKS.find(self.task), self.conditions.data_dir
        data = task.make_data(settings, data_dir=folder, seed=self.seed)
        if not isinstance(data, TaskData):
            raise Broken(f"make_data must return a TaskData, got {type(data).__name__}")
        data.prepare()
        steps = data.steps_per_epoch
        if not isinstance(steps, int) or steps < 1:
            raise Broken(f"steps_per_epoch must be a whole number of at least 1, got {steps!r}")
        self.steps_per_epoch = steps
        run = self._build()
        self.batch = next(iter(run.data.train_batches(0)), None)
        if self.batch is None:
            raise Broken("train_batches(0) yields no batch")
        number = sum(p.numel() for p in run.task.parameters() if p.requires_grad)
        if not number:
            raise Broken("the model has no parameters to train")
        batch = getattr(settings, "batch_size", None)
        of = "" if batch is None else f" of batch_size {batch}"
        return f"{number:,} parameters; {steps:,} batches{of} an epoch: {shapes(self.batch)}"

    def batches(self) -> str:
        """A stopped trial draws the rest of its epoch again, from the batch where it stopped."""
        first, second = (list(itertools.islice(self._data().train_batches(0), 3)) for _ in "12")
        if not same(first, second):
            raise Broken("train_batches(0) gives other batches the second time: draw them from a"
                         " generator that is seeded with the seed and the epoch")  # fmt: skip
        if len(first) > 1 and not same(first[1:2], list(
            itertools.islice(self._data().train_batches(0, start=1), 1)
        )):  # fmt: skip
            raise Broken("train_batches(0, start=1) does not begin with the second batch, so a"
                         " stopped trial would go on with others")  # fmt: skip
        data = self._data()
        for part in ("val", "test"):
            once, again = (
                list(itertools.islice(data.evaluation_share(part, 0, 1), 2)) for _ in "12"
            )
            if part == "val" and not once:
                raise Broken("val_batches yields no batch")
            if not same(once, again):
                raise Broken(f"{part}_batches gives other batches the second time")
        if self.steps_per_epoch > 1 and same(first[:1], first[1:2]):
            raise Unmet("the same the second time, but the first two of an epoch are equal")
        return "the same the second time, and from the middle of an epoch on"

    def epoch(self) -> str:
        started, count = time.monotonic(), 0
        for count, _ in enumerate(self._data().train_batches(0), 1):
            if time.monotonic() - started > COUNTING_SECONDS:
                return f"{count:,} batches drawn in {COUNTING_SECONDS:.0f} s, the rest not counted"
        if count != self.steps_per_epoch:
            raise Broken(f"train_batches(0) yields {count:,} batches, and steps_per_epoch is"
                         f" {self.steps_per_epoch:,}")  # fmt: skip
        return f"has its {count:,} batches, drawn in {time.monotonic() - started:.2g} s"

    def loss(self) -> str:
        run = self._build()
        loss = run.task.training_step(run.fabric.to_device(self.batch), 0)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise Broken(f"training_step must return a single number, got {got}")
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Broken(f"the first batch's loss is {value}")
        if not loss.requires_grad:
            raise Broken("training_step's loss has no gradient: it was detached, or computed under"
                         " no_grad")  # fmt: skip
        run.fabric.backward(loss)
        trained = {n: p for n, p in run.task.named_parameters() if p.requires_grad}
        for name, parameter in trained.items():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                raise Broken(f"the gradient of {name} is not finite")
        without = [name for name, parameter in trained.items() if parameter.grad is None]
        if len(without) == len(trained):
            raise Broken("no parameter gets a gradient from the loss")
        if without:
            raise Unmet(f"{value:.4g}; no gradient reaches {listed(without)}")
        return f"{value:.4g} on the first batch, and every parameter gets a gradient"

    def learning(self) -> str:
        """The loss falls when one batch is trained on again and again."""
        fell = []
        for rate in RATES:
            run = self._build(lr=rate)
            run.task.train()
            batch = run.fabric.to_device(self.batch)
            losses: list[float] = []
            for _ in range(LEARNING_STEPS):
                started = time.perf_counter()
                run.train_step(batch)
                losses.append(_last_loss(run))
                self.times.append(time.perf_counter() - started)
            first, last = statistics.fmean(losses[:2]), statistics.fmean(losses[-2:])
            if last < first:
                return (f"the loss falls from {losses[0]:.4g} to {losses[-1]:.4g} in"
                        f" {LEARNING_STEPS} updates of Adam at {rate:g} on one batch")  # fmt: skip
            fell.append(f"{losses[0]:.4g} to {losses[-1]:.4g} at {rate:g}")
        raise Broken(f"{LEARNING_STEPS} updates of Adam on one batch do not lower the loss:"
                     f" {', '.join(fell)}")  # fmt: skip

    def metrics(self) -> str:
        run = self._build()
        decides = find_metric(self.task)
        said = []
        for part in ("val", "test"):
            batches = itertools.islice(run.data.evaluation_share(part, 0, 1), EVALUATED)
            found = run.evaluate(batches, part)
            self.measured |= found
            if not found and part == "test":
                said.append("no test part")
            for metric in describe(self.task).measures if found else ():
                value = found.get(f"{part}_{metric.name}")
                if value is not None:
                    least, largest = metric.range
                    if not least <= value <= largest:
                        raise Broken(f"{part} {metric.name} is {value:.6g}, outside its declared"
                                     f" range, {least:g} to {largest:g}")  # fmt: skip
                    said.append(f"{part} {metric.name} {value:.4g} ({least:g} to {largest:g})")
                elif metric == decides:
                    names = [name.removeprefix(f"{part}_") for name in found]
                    raise Broken(f"measures declares {metric.name}, and metrics returned"
                                 f" {listed(names)}")  # fmt: skip
                else:
                    said.append(f"{part} {metric.name} is not measured each time")
        chance = float(describe(self.task).chance(make_settings(self.task, self.settings)))
        if not decides.range[0] <= chance <= decides.range[1]:
            raise Broken(f"chance is {chance:g}, outside the range of {decides.name}")
        return f"{'; '.join(said)}; {decides.name} by chance {chance:.4g}"

    def reward(self) -> str:
        metric = find_metric(self.task)
        try:
            metric.check_rewards()
        except ConfigError as error:
            said = str(error).splitlines()[0]
            raise Unmet(f"a study can use the task, a search cannot: {said}") from None
        if f"val_{metric.name}" not in self.measured:
            raise Unmet("not tried, as nothing was measured")
        value = self.measured[f"val_{metric.name}"]
        return f"{metric.reward(value):.4f} in a search, before training"

    def equal_runs(self) -> str:
        """Two runs of the same trial end with the same losses and weights, bit for bit."""
        first, second = (self._trained(SAME_STEPS) for _ in "12")
        self._require_same(first, second, "two runs of the same trial differ")
        return f"{SAME_STEPS} updates done twice end with the same losses and weights, bit for bit"

    def resuming(self) -> str:
        """A run that is saved and goes on in another process ends as if it had not stopped."""
        half = SAME_STEPS // 2
        whole = self._trained(SAME_STEPS)
        kept = io.BytesIO()
        torch.save(self._trained(half), kept)
        kept.seek(0)
        state = torch.load(kept, map_location="cpu", weights_only=True)
        run = self._build()
        run.restore(state["run"])
        again = self._trained(SAME_STEPS - half, run)
        again["losses"] = [*state["losses"], *again["losses"]]
        self._require_same(whole, again, f"a run that stops after {half} updates and goes on ends"
                           " differently from one that does not stop")  # fmt: skip
        return "saved half way and continued, a run ends the same, bit for bit"

    def cost(self) -> str:
        timed = self.times[2:] or self.times
        if not timed:
            raise Unmet("not timed")
        step = statistics.median(timed)
        gpu = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
        used = gpu or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS
        what = "of GPU memory" if gpu else "of memory with torch and all"
        return (f"{step:.3g} s an update, {step * self.steps_per_epoch:.3g} s an epoch without"
                f" evaluation; {used:.2f} GB {what}")  # fmt: skip

    def _trial(self, lr: float) -> Trial:
        epochs = 2 + max(SAME_STEPS, LEARNING_STEPS) // max(1, self.steps_per_epoch)
        training = Training(epochs=epochs)
        return Trial(self.task, self.settings, "adam", lr, training=training, seed=self.seed)

    def _build(self, lr: float = RATES[0]) -> Run:
        return build(self._trial(lr), self.conditions)

    def _data(self) -> TaskData:
        return self._build().data

    def _trained(self, steps: int, run: Run | None = None) -> dict[str, Any]:
        """The run's state and losses after some updates, through as many epochs as that takes."""
        run = self._build() if run is None else run
        losses: list[float] = []
        run.task.train()
        for _ in range(steps):
            if run.batch == self.steps_per_epoch:
                run.epoch, run.batch = run.epoch + 1, 0
            batch = next(iter(run.data.train_batches(run.epoch, run.batch)))
            run.train_step(run.fabric.to_device(batch))
            losses.append(_last_loss(run))
        return {"run": run.state(), "losses": losses}

    def _require_same(self, one: dict[str, Any], other: dict[str, Any], what: str) -> None:
        for step, pair in enumerate(zip(one["losses"], other["losses"], strict=True), 1):
            if pair[0] != pair[1]:
                raise Broken(f"{what}: at update {step} the losses are {pair[0]!r} and {pair[1]!r}")
        weights, others = one["run"]["model"], other["run"]["model"]
        for name, value in weights.items():
            if not same(value, others[name]):
                raise Broken(f"{what}: the losses are equal, {name} is not")


def _last_loss(run: Run) -> float:
    """The loss of the update just done; waits for the device."""
    losses: list[float] = []
    run.bad_step(lambda first, some: losses.extend(some))
    return losses[-1]


_RSS_UNITS = 2**30 if sys.platform == "darwin" else 2**20
"""Of `ru_maxrss`, in a GB."""


def shapes(batch: Any) -> str:
    """`float32 100x3x32x32, int64 100`."""
    found: list[str] = []

    def note(tensor: Tensor) -> Tensor:
        size = "x".join(map(str, tensor.shape)) or "a number"
        found.append(f"{str(tensor.dtype).removeprefix('torch.')} {size}")
        return tensor

    apply_to_collection(batch, Tensor, note)
    return ", ".join(found) or f"no tensors, but {type(batch).__name__}"


def same(one: Any, other: Any) -> bool:
    """Whether two batches hold the same values, bit for bit (NaN equals NaN)."""
    sides: list[list[Tensor]] = []
    for side in (one, other):
        sides.append([])
        apply_to_collection(side, Tensor, sides[-1].append)
    first, second = sides
    return len(first) == len(second) and all(
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
        if a.is_floating_point()
        else torch.equal(a, b)
        for a, b in zip(first, second, strict=True)
    )


def listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
