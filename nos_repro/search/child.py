"""The reward of an update rule: a child network trained with it (sec. 3.3 and 4.2).

"10^i with i ranging from -5 to 1, with each learning rate being tried for 1 epoch on 10,000
CIFAR-10 training examples. The best learning rate after 1 epoch is then used to train our child
network for 5 epochs and the final validation accuracy is reported as a reward".

*Readings of the paper*: the 5 epochs start from scratch and use all training images (the paper
mentions 10,000 only for the sweep); every child starts from the same weights and sees the same
batches; the best rate is the best on the held-out images, the smaller of two equals.

The shortcuts do not change what is measured. A rate is abandoned as soon as its loss is not finite.
The rates of a sweep train in step, so that each batch is prepared once for all of them, and the
loop does nothing but the update, the check and a look at the clock.

What trains is imported late: a report reads only settings and evaluations.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from nos_repro.errors import ConfigError, NosError, no_exit
from nos_repro.experiments.environment import Environment
from nos_repro.experiments.fit import SECTION
from nos_repro.experiments.trial import Training, Trial
from nos_repro.search.log import RESULT, misfits
from nos_repro.tasks.metrics import Metric
from nos_repro.tasks.registry import find_metric

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions
    from nos_repro.experiments.training import Run
    from nos_repro.tasks.base import TaskData

log = logging.getLogger(__name__)

Fault = Literal["", "task", "optimizer", "settings"]
"""Whose fault it is that a child failed."""
ChildStatus = Literal["healthy", "diverged", "overran", "failed", "refused", "reused", "stopped"]
Part = Literal["whole", "sweep", "rest"]
"""A child's evaluation, or the part of it that comes before or after the best rate is known."""

OPTIMIZERS = ("nos_repro.rules.", "nos_repro.optim.", "torch.optim.")
"""Where an exception goes through that an optimizer raises."""
PAPER_RATES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]


@dataclass(frozen=True)
class Child:
    """What is trained to score a rule, and for how long."""

    task: dict[str, Any] = field(metadata=SECTION)
    """What is trained: a task's `name` and its settings, as in a study."""
    sweep: dict[str, Any] = field(default_factory=dict)
    """Settings of the task that differ while the rates are tried, such as fewer images."""
    rates: list[float] = field(default_factory=lambda: list(PAPER_RATES))
    """The learning rates to try (default: 1e-5 to 10 in decades)."""
    sweep_epochs: int = 1
    """Epochs for each rate."""
    epochs: int = 5
    """Epochs from scratch with the best rate; their last validation metric gives the reward."""
    seconds: float = 3600.0
    """The most time that a child may take, so that a very slow one does not block its worker."""
    environment: Environment | None = None
    """What becomes of the gradients before the rule sees them (002 sec. 7), as a study's
    `training.environment`; nothing by default."""

    def __post_init__(self) -> None:
        for key in ("sweep_epochs", "epochs"):
            if getattr(self, key) < 1:
                raise ConfigError(f"child.{key} must be at least 1, got {getattr(self, key)}")
        if not self.seconds > 0:
            raise ConfigError(f"child.seconds must be positive, got {self.seconds}")
        if not self.rates or len(set(self.rates)) < len(self.rates):
            raise ConfigError(f"child.rates must be different numbers, got {self.rates}")
        for rate in self.rates:
            if not (math.isfinite(rate) and rate > 0):
                raise ConfigError(f"child.rates must be positive finite numbers, got {rate}")

    def trial(self, optimizer: str, lr: float, seed: int, *, sweep: bool) -> Trial:
        """The training of the child with ``optimizer`` at one rate, as a trial."""
        settings = {**self.task, **(self.sweep if sweep else {})}
        name = settings.pop("name")
        return Trial(
            task=name,
            task_settings=settings,
            optimizer=optimizer,
            lr=float(lr),
            training=Training(
                epochs=self.sweep_epochs if sweep else self.epochs, environment=self.environment
            ),
            seed=seed,
        )


@dataclass(frozen=True)
class Evaluation:
    """What is known about a rule's reward. A child ends ``healthy``, or with a reward of 0 and a
    reason: it ``diverged`` or ``overran`` its time. Without a child, a rule is ``refused``, or the
    reward of an equal rule is ``reused``; a rule that a cascade ``stopped`` has the reward that is
    forecast for it. A child that ``failed`` with an exception says nothing about its rule;
    ``fault`` and ``traceback`` say where to look.

    ``sweep`` has the validation metric of every rate, None where it diverged; ``metrics`` has those
    of the final training, and ``curve``, if asked for, the one that decides after each of its
    epochs. ``examples`` is the number of examples trained on in all.
    """

    status: ChildStatus
    reward: float
    lr: float | None = None
    sweep: list[tuple[float, float | None]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    examples: int = 0
    seconds: float = 0.0
    reason: str = ""
    fault: Fault = ""
    traceback: str = ""
    curve: list[float | None] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def to_log(self) -> dict[str, Any]:
        """Without the traceback, which names this machine's paths: logs are committed."""
        values = self.to_json()
        del values["traceback"]
        return values

    @classmethod
    def from_json(cls, values: Any) -> Evaluation:
        """Raises TypeError for values that are not an evaluation."""
        if not isinstance(values, dict):
            raise TypeError(f"expected an object, got {values!r}")
        sweep = [(float(rate), metric) for rate, metric in values.get("sweep", [])]
        for key in misfits(values, RESULT):
            raise TypeError(f"'{key}' is invalid")
        return cls(**{**values, "sweep": sweep})


class _Overran(Exception):
    """The child's time is up."""


def evaluate(
    optimizer: str,
    child: Child,
    conditions: Conditions,
    *,
    seed: int = 0,
    test: bool = False,
    curve: bool = False,
    stop: Callable[[], bool] = lambda: False,
    part: Part = "whole",
    swept: Evaluation | None = None,
) -> Evaluation:
    """Trains the child with ``optimizer``, a rule's text or any name that the factory knows.

    ``part``: the whole child; its sweep alone, with the reward of the best rate's metric; or the
    rest, at the best rate that ``swept`` found. The two parts together find what the whole child
    finds.

    A rule that diverges, breaks or overruns is a result. If ``stop`` returns True, Stopped is
    raised. Failures of the machine and mistakes of the user (NosError) are raised. ``test``: the
    test metric is measured too; it is not part of the reward. ``curve``: the final training is
    evaluated after every epoch, which changes no other number.
    """
    from nos_repro.experiments.training import Stopped

    started = time.perf_counter()
    spent = 0.0 if swept is None else swept.seconds
    watch = Watch(started + child.seconds - spent, stop)
    try:
        with no_exit():
            if part == "rest" and swept is not None:
                sweep = swept.sweep
            else:
                sweep = _sweep(optimizer, child, conditions, seed, watch)
            found = _swept(child, sweep)
            if part != "sweep" and found.lr is not None:
                found = _score(optimizer, child, conditions, found, seed, test, curve, watch)
    except _Overran:
        found = Evaluation("overran", 0.0, reason=f"took more than {child.seconds:g} s")
    except (NosError, Stopped):
        raise
    except Exception as error:
        if is_the_machines(error):
            raise
        log.info("the child of %s broke", optimizer, exc_info=True)
        found = broken(error)
    return dataclasses.replace(
        found,
        examples=watch.steps * child.task.get("batch_size", 1),
        seconds=round(time.perf_counter() - started, 3),
    )


def broken(error: Exception) -> Evaluation:
    """A child that ended in ``error``."""
    if isinstance(error, NosError):
        reason, fault = str(error), "settings"
    else:
        reason, fault = f"{type(error).__name__}: {error}", "task"
    if any(name.startswith(OPTIMIZERS) for name in _modules(error)):
        fault = "optimizer"
    trace = "".join(traceback.format_exception(error))
    return Evaluation("failed", 0.0, reason=reason, fault=cast(Fault, fault), traceback=trace)


def _modules(error: Exception) -> list[str]:
    """The modules that an exception went through. Every optimizer's `step` goes through torch's."""
    frames = traceback.walk_tb(error.__traceback__)
    return [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]


def is_the_machines(error: Exception) -> bool:
    """Whether the machine failed (memory, disk, device), not the rule."""
    import torch

    if isinstance(error, MemoryError | OSError | torch.OutOfMemoryError | torch.AcceleratorError):
        return True
    words = ("CUDA error", "CUBLAS", "cuDNN", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _swept(child: Child, sweep: list[tuple[float, float | None]]) -> Evaluation:
    """What a sweep says: the best rate, and the reward of its metric."""
    metric = find_metric(child.task["name"])
    lr = best_rate(sweep, metric)
    if lr is None:
        return Evaluation("diverged", 0.0, sweep=sweep, reason="every rate diverged")
    reward = reward_of(child.task["name"], {f"val_{metric.name}": cast(float, dict(sweep)[lr])})
    return Evaluation("healthy", cast(float, reward), lr, sweep)


def _score(
    optimizer: str,
    child: Child,
    conditions: Conditions,
    swept: Evaluation,
    seed: int,
    test: bool,
    curve: bool,
    watch: Watch,
) -> Evaluation:
    """The training at the best rate of ``swept``."""
    from nos_repro.experiments.build import build

    lr, sweep = cast(float, swept.lr), swept.sweep
    metric = find_metric(child.task["name"])
    run = build(child.trial(optimizer, lr, seed, sweep=False), conditions)
    points: list[float | None] = []

    def measure() -> None:
        if curve and run.epoch < child.epochs:
            measured = run.evaluate(run.data.val_batches(), "val")
            points.append(_finite(measured[f"val_{metric.name}"]))

    if not train_in_step([run], watch, measure):
        reason = f"rate {lr:g} diverged at step {run.step} of {run.steps}"
        return Evaluation("diverged", 0.0, lr, sweep, curve=points, reason=reason)
    metrics = run.evaluate(run.data.val_batches(), "val")
    if curve:
        points.append(_finite(metrics[f"val_{metric.name}"]))
    if test:
        metrics |= run.evaluate(run.data.test_batches(), "test")
    reward = reward_of(child.task["name"], metrics)
    if reward is None:
        reason = "the final evaluation is not finite"
        return Evaluation("diverged", 0.0, lr, sweep, curve=points, reason=reason)
    return Evaluation("healthy", reward, lr, sweep, metrics, curve=points)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def best_rate(sweep: list[tuple[float, float | None]], metric: Metric) -> float | None:
    """The rate with the best value of the metric; None if no rate has one."""
    scored = [(metric.sign * value, -rate) for rate, value in sweep if value is not None]
    return -max(scored)[1] if scored else None


def reward_of(task: str, measured: dict[str, float]) -> float | None:
    """The reward for the validation metric of ``task`` (`Metric.reward`); None if any ``measured``
    value is not finite. Raises ConfigError for a value that the metric cannot have."""
    if not all(map(math.isfinite, measured.values())):
        return None
    metric = find_metric(task)
    try:
        return metric.reward(measured[f"val_{metric.name}"])
    except ConfigError as error:
        raise ConfigError(f"task {task}: {error}") from None


@dataclass
class Watch:
    """Checks the clock and whether to stop, between two steps."""

    deadline: float
    stop: Callable[[], bool]
    steps: int = 0

    def look(self) -> None:
        if time.perf_counter() > self.deadline:
            raise _Overran
        if self.stop():
            from nos_repro.experiments.training import Stopped

            raise Stopped


def _sweep(
    optimizer: str, child: Child, conditions: Conditions, seed: int, watch: Watch
) -> list[tuple[float, float | None]]:
    """The validation metric of every rate, None where it diverged."""
    from nos_repro.experiments.build import build

    trials = [child.trial(optimizer, lr, seed, sweep=True) for lr in child.rates]
    first = build(trials[0], conditions)
    runs = [first, *(build(trial, conditions, data=first.data) for trial in trials[1:])]
    alive = train_in_step(runs, watch)
    held_out = list(runs[0].data.val_batches())
    metric = find_metric(child.task["name"])
    found: dict[int, float] = {}
    for run in alive:
        measured = run.evaluate(iter(held_out), "val")
        watch.look()
        if reward_of(child.task["name"], measured) is not None:
            found[id(run)] = measured[f"val_{metric.name}"]
    return [(lr, found.get(id(run))) for lr, run in zip(child.rates, runs, strict=True)]


def train_in_step(
    runs: list[Run], watch: Watch, on_epoch: Callable[[], None] = lambda: None
) -> list[Run]:
    """Trains runs on the same data in step, to their end; returns those whose losses stayed finite.
    ``on_epoch`` is called after every epoch.

    What a step draws at random (dropout) is seeded by the step's number alone, the same for all.
    """
    import torch

    from nos_repro.experiments.training import CHECK_EVERY

    data: TaskData = runs[0].data
    on_cpu = runs[0].fabric.device.type == "cpu"
    every = 1 if on_cpu else CHECK_EVERY
    seed = torch.default_generator.manual_seed if on_cpu else torch.manual_seed
    alive = list(runs)
    for run in runs:
        run.task.train()
    for epoch in range(runs[0].training.epochs):
        for k, batch in enumerate(data.train_batches(epoch), start=1):
            batch = runs[0].to_device(batch)
            look = k % every == 0 or k == data.steps_per_epoch
            for run in alive:
                seed(epoch * data.steps_per_epoch + k)
                run.train_step(batch)
                watch.steps += 1
                watch.look()
            if look:
                alive = [run for run in alive if run.bad_step() is None]
            if not alive:
                return []
        for run in alive:
            run.epoch, run.batch = run.epoch + 1, 0
        on_epoch()
    return alive
