"""From a trial's settings to a run at its first step: data, weights, optimizer and schedule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from nos_repro.experiments.training import Run
from nos_repro.experiments.trial import Trial, make_settings
from nos_repro.optim.factory import make_optimizer, make_schedule
from nos_repro.tasks import find_task
from nos_repro.tasks.base import Task, TaskData


@dataclass(frozen=True)
class Conditions:
    """What a trial runs under, none of which may change its numbers."""

    data_dir: Path
    checkpoint_seconds: float = 60.0
    device: str = "auto"


def build_task(trial: Trial, conditions: Conditions) -> tuple[Task, TaskData]:
    """A trial's task and data, plain Lightning modules. Raises the errors of either."""
    cls = find_task(trial.task)
    settings = make_settings(trial.task, trial.task_settings)
    data = cls.make_data(settings, data_dir=conditions.data_dir, seed=trial.seed)
    data.prepare()
    total_steps = trial.training.epochs * data.steps_per_epoch

    def make(params: Iterable[Any]) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = make_optimizer(
            trial.optimizer,
            params,
            lr=trial.lr,
            weight_decay=trial.weight_decay,
            total_steps=total_steps,
            seed=trial.seed,
            **trial.options,
        )
        schedule = make_schedule(
            trial.schedule,
            optimizer,
            total_steps=total_steps,
            seed=trial.seed,
            **trial.schedule_options,
        )
        return optimizer, schedule

    torch.manual_seed(trial.seed)
    return cls(settings, make), data


def build(trial: Trial, conditions: Conditions) -> Run:
    """The run of a trial at its first step, on its device. Raises what `build_task` raises."""
    task, data = build_task(trial, conditions)
    return Run(task, data, trial.training, make_fabric(conditions.device))


def make_fabric(device: str) -> Fabric:
    """One device. CUDA: the one that this process was given by `torch.cuda.set_device`, which
    Fabric by itself would overrule by the first. "auto" passes over Apple's: it has no float64.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    devices = [torch.cuda.current_device()] if device == "cuda" else 1
    return Fabric(accelerator=device, devices=devices, plugins=[LightningEnvironment()])
