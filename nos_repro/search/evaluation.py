"""The reward of an update rule: a child network trained with it (sec. 3.3 and 4.2).

"10^i with i ranging from -5 to 1, with each learning rate being tried for 1 epoch on 10,000
CIFAR-10 training examples. The best learning rate after 1 epoch is then used to train our child
network for 5 epochs and the final validation accuracy is reported as a reward".

*Readings of the paper*: the 5 epochs start from scratch and use all training images (the paper
mentions 10,000 only for the sweep); every child starts from the same weights and sees the same
batches.

The shortcuts do not change what is measured. A rate is abandoned as soon as its loss is not finite.
The rates of a sweep train in step, so that each batch is prepared once for all of them, and the
loop does nothing but the update, the check and a look at the clock.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nos_repro.errors import NosError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.training import CHECK_EVERY, Run, Stopped
from nos_repro.search.child import Child, Evaluation, best_rate, reward_of
from nos_repro.tasks.base import TaskData
from nos_repro.tasks.registry import find_metric

log = logging.getLogger(__name__)


class _Overran(Exception):
    """The child's time is up."""


def evaluate(
    optimizer: str,
    child: Child,
    conditions: Conditions,
    *,
    seed: int = 0,
    test: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Trains the child with ``optimizer``, a rule's text or any name that the factory knows.

    A rule that diverges, breaks or overruns is a result. If ``stop`` returns True, Stopped is
    raised. Failures of the machine and mistakes of the user (NosError) are raised. ``test``: the
    test metric is measured too; it is not part of the reward.
    """
    started = time.perf_counter()
    watch = Watch(started + child.seconds, stop)
    try:
        found = _score(optimizer, child, conditions, seed, test, watch)
    except _Overran:
        found = Evaluation("overran", 0.0, reason=f"took more than {child.seconds:g} s")
    except (NosError, Stopped):
        raise
    except Exception as error:
        if is_the_machines(error):
            raise
        log.exception("the child of %s broke", optimizer)
        found = Evaluation("failed", 0.0, reason=f"{type(error).__name__}: {error}")
    return dataclasses.replace(
        found,
        examples=watch.steps * child.task.get("batch_size", 1),
        seconds=round(time.perf_counter() - started, 3),
    )


def is_the_machines(error: Exception) -> bool:
    """Whether the machine failed (memory, disk, device), not the rule."""
    if isinstance(error, MemoryError | OSError | torch.OutOfMemoryError | torch.AcceleratorError):
        return True
    words = ("CUDA error", "CUBLAS", "cuDNN", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _score(
    optimizer: str, child: Child, conditions: Conditions, seed: int, test: bool, watch: Watch
) -> Evaluation:
    metric = find_metric(child.task["name"])
    sweep = _sweep(optimizer, child, conditions, seed, watch)
    lr = best_rate(sweep, metric)
    if lr is None:
        return Evaluation("diverged", 0.0, sweep=sweep, reason="every rate diverged")
    run = build(child.trial(optimizer, lr, seed, sweep=False), conditions)
    if not train_in_step([run], watch):
        reason = f"rate {lr:g} diverged at step {run.step} of {run.steps}"
        return Evaluation("diverged", 0.0, lr, sweep, reason=reason)
    metrics = run.evaluate(run.data.val_batches(), "val")
    if test:
        metrics |= run.evaluate(run.data.test_batches(), "test")
    reward = reward_of(child.task["name"], metrics)
    if reward is None:
        reason = "the final evaluation is not finite"
        return Evaluation("diverged", 0.0, lr, sweep, reason=reason)
    return Evaluation("healthy", reward, lr, sweep, metrics)


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
            raise Stopped


def _sweep(
    optimizer: str, child: Child, conditions: Conditions, seed: int, watch: Watch
) -> list[tuple[float, float | None]]:
    """The validation metric of every rate, None where it diverged."""
    runs = [build(child.trial(optimizer, lr, seed, sweep=True), conditions) for lr in child.rates]
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


def train_in_step(runs: list[Run], watch: Watch) -> list[Run]:
    """Trains runs on the same data in step, to their end; returns those whose losses stayed finite.

    What a step draws at random (dropout) is seeded by the step's number alone, the same for all.
    """
    data: TaskData = runs[0].data
    every = 1 if runs[0].fabric.device.type == "cpu" else CHECK_EVERY
    alive = list(runs)
    for run in runs:
        run.task.train()
    for epoch in range(runs[0].training.epochs):
        for k, batch in enumerate(data.train_batches(epoch), start=1):
            batch = runs[0].fabric.to_device(batch)
            look = k % every == 0 or k == data.steps_per_epoch
            for run in alive:
                torch.manual_seed(epoch * data.steps_per_epoch + k)
                run.train_step(batch)
                watch.steps += 1
                watch.look()
            if look:
                alive = [run for run in alive if run.bad_step() is None]
            if not alive:
                return []
        for run in alive:
            run.epoch, run.batch = run.epoch + 1, 0
    return alive
