"""From a trial's settings to a run at its first step: data, weights, optimizer and schedule."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from nos_repro.errors import ConfigError
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.gradients import check_environment
from nos_repro.experiments.ranks import part_random_states, share_batch_norm
from nos_repro.experiments.replicas import ALONE, Group, Replicas, joined, node_devices
from nos_repro.experiments.shards import check_elementwise, check_shardable, shard
from nos_repro.experiments.training import Run, Stopped
from nos_repro.experiments.trial import Trial, make_settings
from nos_repro.optim.factory import make_optimizer, make_schedule, starts_over
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import Task, TaskData, require_even


@dataclass(frozen=True)
class Conditions:
    """What a trial runs under. Nothing of it may change the trial's numbers, except that the device
    and its settings change the rounding, and another number of processes also what dropout draws.

    ``processes`` run on each of ``nodes``. All of them call `run_trial`; nothing else looks at
    these two.
    """

    data_dir: Path
    checkpoint_seconds: float = 60.0
    device: str = "auto"
    device_settings: DeviceSettings = field(default_factory=DeviceSettings)
    nodes: int = 1
    processes: int = 1

    def __post_init__(self) -> None:
        for key in ("nodes", "processes"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.device_settings.shard and self.nodes * self.processes == 1:
            raise ConfigError(
                "device.shard=true needs several processes that train a trial together, here it is"
                " one\n  leave it out, or use a cluster with launcher.gpus=2 or more (or"
                " launcher.nodes, launcher.processes)"
            )

    def join(self) -> AbstractContextManager[Replicas]:
        """The processes that train a trial together (`replicas.joined`)."""
        return joined(self.nodes, self.processes, choose_device(self.device), quiet=(Stopped,))


def build_task(
    trial: Trial, conditions: Conditions, data: TaskData | None = None
) -> tuple[Task, TaskData]:
    """A trial's task and data, plain Lightning modules; ``data`` are those of a trial with the same
    task, settings and seed. Raises what these raise."""
    cls = TASKS.find(trial.task)
    settings = make_settings(trial.task, trial.task_settings)
    in_effect = conditions.device_settings.on(choose_device(conditions.device), settings)
    settings = in_effect.of_task(settings)
    if data is None:
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


def build(
    trial: Trial,
    conditions: Conditions,
    replicas: Replicas = ALONE,
    data: TaskData | None = None,
) -> Run:
    """The run of a trial at its first step, on its device: all of it, or this process's part among
    ``replicas``; ``data`` as in `build_task`. Raises what that raises, and ConfigError if several
    processes cannot train the trial.
    """
    settings = make_settings(trial.task, trial.task_settings)
    require_even(getattr(settings, "batch_size", replicas.world), replicas.world)
    device = choose_device(conditions.device)
    in_effect = conditions.device_settings.on(device, settings)
    in_effect.prepare(device)
    task, data = replicas.leader_first(lambda: build_task(trial, conditions, data))
    check_environment(trial.training.environment, data, replicas.world)
    part_random_states(replicas.rank)
    share_batch_norm(task, device, replicas)
    in_effect.compile_model(task)
    sharded = in_effect.shard and replicas.world > 1  # one alone only times a few steps
    fabric = make_fabric(conditions.device, ALONE if sharded else replicas)
    if sharded:
        check_shardable(type(task), trial.training)
        shard(task, fabric.device)
    if in_effect.resident:
        data.reside(fabric.device)
    known = in_effect.to_json()
    run = Run(
        task,
        data,
        trial.training,
        fabric,
        replicas,
        seed=trial.seed,
        device_settings=known,
        sharded=sharded,
        starts_over=starts_over(trial.optimizer, trial.options),
    )
    if sharded:
        check_elementwise(run.bare_optimizer)
    return run


def choose_device(device: str) -> str:
    """ "auto" skips Apple's GPUs: they have no float64."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def make_fabric(device: str, replicas: Replicas = ALONE) -> Fabric:
    """One device per process. On CUDA a single process keeps the device that it was given by
    `torch.cuda.set_device`; Fabric by itself would take the first.

    Several processes look for unused parameters. Without that, DDP changes the layout of its
    gradients after the first step, and sums of three or more numbers depend on the layout: a
    resumed run would not equal, bit for bit, one that never stopped. Besides, parameters that a
    step does not use stay as they are.
    """
    device = choose_device(device)
    if not isinstance(replicas, Group):
        fabric = copy.copy(
            _fabric_alone(torch.cuda.current_device() if device == "cuda" else device)
        )
        fabric._callbacks = []  # else every run's task would be kept, and asked after each update
        return fabric
    strategy = DDPStrategy(
        parallel_devices=node_devices(device, replicas.processes),
        cluster_environment=replicas.environment,
        find_unused_parameters=True,
    )
    fabric = Fabric(accelerator=device, devices=1, num_nodes=replicas.nodes, strategy=strategy)
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # else Fabric sets them
    fabric.launch()
    return fabric


@functools.cache
def _fabric_alone(device: str | int) -> Fabric:
    """A Fabric takes 10 ms to make, and the runs of a process share all of it but one list: a child
    of the cheapest task makes 8 runs in less than a tenth of a second."""
    accelerator, devices = ("cuda", [device]) if isinstance(device, int) else (device, 1)
    return Fabric(accelerator=accelerator, devices=devices, plugins=[LightningEnvironment()])
