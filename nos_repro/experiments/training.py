"""The training loop of every trial: a lean loop over a Lightning module.

`pl.Trainer` would work, but takes about 1.3x as long as a bare loop on the small ConvNet and cannot
resume inside an epoch bit for bit. Lightning Fabric handles the device, the task its precision.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from nos_repro.experiments.checkpoint import (
    Checkpoints,
    Kind,
    random_state,
    restore_random_state,
)
from nos_repro.experiments.gradients import EnvironmentGradients
from nos_repro.experiments.ranks import part_random_states
from nos_repro.experiments.replicas import ALONE, Replicas
from nos_repro.experiments.shards import spread_optimizer, spread_weights, whole, whole_copy
from nos_repro.experiments.trial import Training
from nos_repro.optim.modes import Modes
from nos_repro.tasks.base import Task, TaskData, slice_batch

CHECK_EVERY = 25
"""Steps between checks of the losses: a check waits for the device, and a NaN does not go away."""


TellLosses = Callable[[int, Sequence[float]], None]
"""Takes the losses of the steps from a first one on."""
# fmt: off
STATE: dict[str, Kind] = {
    "model": dict, "optimizer": dict, "schedule": dict, "random": dict, "epoch": int, "batch": int,
    "history": list, "seconds": (int, float), "loss_total": (int, float),
}
"""What a trial's checkpoint holds (`Run.state`)."""
UNSAVED = "unsaved"
"""The key of the reason why an optimizer's state is not in a checkpoint."""
# fmt: on


class Stopped(Exception):
    """The run was asked to stop and has saved its state."""


@dataclass
class Ending:
    """How training ended. ``step`` counts updates; a divergence names the first bad one."""

    status: Literal["finished", "diverged", "paused"]
    step: int
    reason: str = ""


@dataclass
class Run:
    """A run in progress: what is trained, how far it is, and what it has measured.

    If several processes train it together, each has a run: they go through the same batches, each
    on its slice, and stay equal except for the random numbers that the model draws.
    """

    task: Task
    data: TaskData
    training: Training
    fabric: Fabric
    replicas: Replicas = ALONE
    epoch: int = 0
    batch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    loss_total: float = 0.0
    seed: int = 0
    """Of what the environment draws."""
    device_settings: dict[str, Any] = field(default_factory=dict)
    """What is in effect on the device (`experiments.device`)."""
    sharded: bool = False
    """Whether this process holds only parts of the weights (`experiments.shards`)."""
    starts_over: str = ""
    """Why the optimizer cannot go on from a saved state as if nothing had happened; "" if it can.
    An interrupted trial then starts over, so that its numbers depend on its settings alone."""

    def __post_init__(self) -> None:
        made: Any = self.task.configure_optimizers()
        self.schedule = made["lr_scheduler"]["scheduler"]
        self.bare_optimizer: torch.optim.Optimizer = made["optimizer"]
        self.modes = Modes(self.bare_optimizer)
        self.model, self.optimizer = self.fabric.setup(self.task, self.bare_optimizer)
        self._unchecked: list[Tensor] = []
        environment = self.training.environment
        self.gradients: EnvironmentGradients | None = None
        if environment is not None:
            params = list(self.task.parameters())
            self.gradients = EnvironmentGradients(environment, params, self.seed)
        self.start_clock()

    @property
    def steps(self) -> int:
        return self.training.epochs * self.data.steps_per_epoch

    @property
    def step(self) -> int:
        return self.epoch * self.data.steps_per_epoch + self.batch

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; all processes call this at once."""
        random, *others = self.replicas.gather(random_state())
        model, optimizer = self.task.state_dict(), self._optimizer_state()
        if self.sharded:
            model, optimizer = whole((model, optimizer), keep=self.replicas.leads)
        return {
            "model": model,
            "optimizer": optimizer,
            "schedule": self.schedule.state_dict(),
            "random": random,
            **({"random_of_others": others} if others else {}),
            "epoch": self.epoch,
            "batch": self.batch,
            "history": self.history,
            "seconds": self.seconds,
            "loss_total": self.loss_total,
            **({"environment": self.gradients.state_dict()} if self.gradients else {}),
            **({"evaluated": self._evaluated_weights()} if self.modes.optimizer else {}),
        }

    def _optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state, or why it is not saved."""
        return {UNSAVED: self.starts_over} if self.starts_over else self.bare_optimizer.state_dict()

    def _evaluated_weights(self) -> dict[str, Tensor]:
        """For who uses the trained model: the weights that are evaluated, not trained."""
        with self.modes.evaluating():
            return {name: value.clone() for name, value in self.task.state_dict().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint. If another number of processes wrote it, all but the leader
        get new random states: the run is valid, but not identical to the uninterrupted one."""
        model, optimizer = state["model"], state["optimizer"]
        if self.sharded:
            model = spread_weights(model, self.task)
            optimizer = spread_optimizer(optimizer, self.bare_optimizer)
        self.task.load_state_dict(model)
        if UNSAVED not in optimizer:
            self.bare_optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(state["schedule"])
        randoms = [state["random"], *state.get("random_of_others", [])]
        if len(randoms) == self.replicas.world:
            restore_random_state(randoms[self.replicas.rank])
        else:
            restore_random_state(randoms[0])
            part_random_states(self.replicas.rank)
        if self.gradients is not None:
            self.gradients.load_state_dict(state["environment"])
        for key in ("epoch", "batch", "history", "seconds", "loss_total"):
            setattr(self, key, state[key])

    def save(self, checkpoints: Checkpoints) -> None:
        """Saves the state, including the time up to now."""
        self._count_seconds()
        checkpoints.save(self.state())

    def start_clock(self) -> None:
        """`seconds` are counted from here on."""
        self._clock = time.perf_counter()

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now

    def to_device(self, batch: Any) -> Any:
        """The batch on the device. A GPU copies it from pinned memory while the host goes on."""
        if self.fabric.device.type == "cuda":
            batch = apply_to_collection(batch, Tensor, lambda x: x if x.is_cuda else x.pin_memory())
        return self.fabric.to_device(batch)

    def train_step(self, batch: Any) -> None:
        """One update and one step of the schedule."""
        if self.gradients is None:
            loss = self._backward(batch)
        else:
            loss = self._backward_in_environment(batch, self.gradients)
        if self.training.gradient_norm is not None:
            self.fabric.clip_gradients(
                self.model,
                self.optimizer,
                max_norm=self.training.gradient_norm,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.schedule.step()
        self._unchecked.append(loss)
        self.batch += 1

    def _backward(self, batch: Any) -> Tensor:
        """Gives the parameters the gradient of a batch's loss; returns what is shown of the
        loss."""
        loss: Tensor = self.model.training_step(batch, self.batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        return self.task.shown_loss(loss.detach(), batch)

    def _backward_in_environment(self, batch: Any, gradients: EnvironmentGradients) -> Tensor:
        """Every simulated worker's loss and gradient in turn; returns the mean loss."""
        losses = []
        workers = gradients.environment.workers
        for worker in range(workers):
            part = slice_batch(batch, worker, workers) if workers > 1 else batch
            losses.append(self._backward(part))
            gradients.take(worker, self.step)
        gradients.deliver()
        return torch.stack(losses).mean()

    def bad_step(self, tell: TellLosses = lambda first, losses: None) -> int | None:
        """Adds the losses since the last check to the epoch's sum, and passes them on. Returns the
        first non-finite step (steps count from 1), None if there is none."""
        losses = torch.stack(self._unchecked).double().cpu().tolist() if self._unchecked else []
        losses = self.replicas.mean(losses)
        first = self.step - len(losses) + 1
        self._unchecked.clear()
        tell(first, losses)
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                return first + offset
            self.loss_total += loss
        return None

    def diverged(self, step: int, what: str) -> Ending:
        """The end of a run in which ``what`` is not finite."""
        self._count_seconds()
        return Ending("diverged", step, f"{what} is not finite")

    def evaluate(self, batches: Iterator[Any], part: str) -> dict[str, float]:
        """The task's metrics over ``batches`` (of all processes, each has its own), named
        `<part>_<metric>`; {} for no batches."""
        sums: dict[str, Tensor] = {}
        task = whole_copy(self.task) if self.sharded else self.task
        with self._evaluating():
            task.eval()
            with torch.no_grad():
                for batch in batches:
                    for key, value in task.evaluation_sums(self.to_device(batch)).items():
                        sums[key] = sums[key] + value if key in sums else value.double()
            task.train()
        totals = self.replicas.add({key: float(value) for key, value in sums.items()})
        if not totals:
            return {}
        metrics = self.task.metrics(totals)
        return {f"{part}_{key}": _plain(value) for key, value in metrics.items()}

    def _evaluating(self) -> AbstractContextManager[None]:
        """The weights are those that the optimizer evaluates (`Modes`)."""
        rank, world = self.replicas.rank, self.replicas.world
        return self.modes.evaluating(
            self.task,
            lambda: self.data.train_share(0, 0, rank, world),
            lambda batch: self.task.training_step(self.to_device(batch)),
        )

    def measure(self) -> dict[str, float]:
        """One line of the curve, after the epoch that has just ended."""
        with self._evaluating():
            measured = {
                **self.evaluate(self._share("val"), "val"),
                **self.evaluate(self._share("test"), "test"),
            }
        return {
            "epoch": self.epoch,
            "step": self.step,
            "lr": float(self.schedule.get_last_lr()[0]),
            "train_loss": self.loss_total / self.data.steps_per_epoch,
            **measured,
        }

    def _share(self, part: Literal["val", "test"]) -> Iterator[Any]:
        return self.data.evaluation_share(part, self.replicas.rank, self.replicas.world)


def train(
    run: Run,
    checkpoints: Checkpoints,
    *,
    on_step: Callable[[Run], None] = lambda run: None,
    on_metrics: Callable[[Run], None] = lambda run: None,
    on_losses: TellLosses = lambda first, losses: None,
    stop: Callable[[], bool] = lambda: False,
    until: int | None = None,
) -> Ending:
    """Trains ``run`` from wherever it is to its last epoch, or to the end of epoch ``until``.

    ``on_step`` is called after every update, ``on_metrics`` after every evaluation,
    ``on_losses`` after every check of the losses, which costs no further wait for the device. When
    ``stop`` returns True (in any of the processes) the state is saved and Stopped raised. A loss or
    an evaluation that is not finite ends the run as `diverged`: a result, not an error.
    """
    epochs = run.training.epochs
    end = epochs if until is None else min(until, epochs)
    rank, world = run.replicas.rank, run.replicas.world
    run.task.train()
    run.start_clock()
    while run.epoch < end:
        for batch in run.data.train_share(run.epoch, run.batch, rank, world):
            run.train_step(run.to_device(batch))
            on_step(run)
            # agreed on once: all leave at the same step, and a saved state has its losses summed
            leaving, due = run.replicas.agree(stop(), checkpoints.due)
            saving = leaving or due
            if (saving or run.batch % CHECK_EVERY == 0) and (bad := run.bad_step(on_losses)):
                return run.diverged(bad, f"the loss of step {bad}")
            if saving:
                run.save(checkpoints)
            if leaving:
                raise Stopped
        if bad := run.bad_step(on_losses):
            return run.diverged(bad, f"the loss of step {bad}")
        run.epoch, run.batch = run.epoch + 1, 0
        if run.epoch == epochs or run.epoch % run.training.evaluate_every == 0:
            line = run.measure()
            odd = [key for key, value in line.items() if not math.isfinite(value)]
            if odd:
                return run.diverged(run.step, f"{odd[0]} after step {run.step}")
            run.history.append(line)
            on_metrics(run)
        run.loss_total = 0.0
        (saving,) = run.replicas.agree(checkpoints.due or run.epoch == end)
        if saving:
            run.save(checkpoints)
    if run.epoch < epochs:
        whole = run.epoch * run.data.steps_per_epoch
        return Ending("paused", whole, f"paused at epoch {run.epoch}")
    return Ending("finished", run.step)


def _plain(number: Any) -> int | float:
    """A number as a record holds it: a task may return a tensor's or NumPy's."""
    return number if type(number) in (int, float) else float(number)
