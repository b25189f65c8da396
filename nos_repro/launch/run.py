"""`run` and `run --detach`: a study, on this machine or on a SLURM cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nos_repro.data import data_folder
from nos_repro.data.cores import available_cores
from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.estimate import measure
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.schema import Study
from nos_repro.experiments.shards import check_shardable
from nos_repro.experiments.store import Store
from nos_repro.experiments.tracker import Tracker
from nos_repro.experiments.trial import make_settings
from nos_repro.launch.base import Launcher
from nos_repro.launch.local import InProcess, LocalWorkers
from nos_repro.launch.progress import PlainStudyDisplay, make_display, say
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.study_run import StudyRun
from nos_repro.launch.work import TrialJob, keep_freed_memory
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import TaskData

if TYPE_CHECKING:
    from nos_repro.launch.slurm.launcher import Slurm

PER_CORE, MOST_PROCESSES = 16, 256
"""More processes or threads are a slip of the pen: per core, or in any case."""


def conditions_of(
    data: Path | None,
    checkpoint_seconds: float,
    settings: LauncherSettings | None = None,
    device: DeviceSettings | None = None,
) -> Conditions:
    """Where the data is, how often a trial saves, how it uses its ``device`` and, on SLURM, how
    many processes train it. Without ``settings`` it is always one. Raises ConfigError."""
    if not checkpoint_seconds >= 0:
        raise ConfigError(f"--checkpoint-seconds must not be negative, got {checkpoint_seconds}")
    use = device or DeviceSettings()
    if settings is None and use.shard:
        raise ConfigError(
            "device.shard: each child of a search or a table is trained by one process, on a"
            " cluster too\n  leave it out"
        )
    slurm = settings is not None and settings.name == "slurm"
    together = (settings.nodes, settings.processes_per_node) if settings and slurm else (1, 1)
    return Conditions(data_folder(data), checkpoint_seconds, "auto", use, *together)


def worker_count(workers: int | None, threads: int) -> int:
    """How many trials to run at a time: as requested, else one per GPU, else as many as the cores
    allow."""
    most = max(MOST_PROCESSES, PER_CORE * available_cores())
    for flag, least, given in (("threads", 1, threads), ("workers", 0, workers)):
        if given is not None and not least <= given <= most:
            raise ConfigError(f"--{flag} must be from {least} to {most:,} here, got {given}")
    if workers is not None:
        return workers
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return max(1, available_cores() // threads)


def launcher_of(
    settings: LauncherSettings,
    root: Path,
    name: str,
    seconds: Callable[[], float],
    *,
    workers: int | None = None,
    threads: int = 1,
    proposing: bool = False,
) -> Launcher[Any]:
    """The launcher for the jobs of the study or search in ``root``.

    On this machine: ``workers`` processes, 0 for this process itself. On SLURM: ``seconds``
    estimates a job's length; ``proposing``: jobs are proposed as others end, so no more are queued
    than run at a time. Raises ConfigError.
    """
    if settings.name == "slurm":
        if proposing and settings.world > 1:
            raise ConfigError(
                f"one process trains a child, but launcher asks for {settings.world}: set"
                " launcher.nodes to 1 and launcher.gpus to at most 1 (or launcher.processes to 1)"
            )
        if workers is not None or threads != 1:
            raise ConfigError(
                "--workers and --threads are for this machine; on SLURM use"
                " launcher.array_parallelism=N and launcher.cpus=N"
            )
        return slurm_of(settings, root, name, seconds, proposing=proposing)
    count = worker_count(workers, threads)
    if count == 0:
        torch.set_num_threads(threads)
        return InProcess()
    return LocalWorkers(count, threads)


def slurm_of(
    settings: LauncherSettings,
    root: Path,
    name: str,
    seconds: Callable[[], float],
    *,
    proposing: bool = False,
) -> Slurm[Any]:
    """The cluster, for the study or search in ``root``. ``seconds`` estimates a job's length;
    ``proposing``: jobs are proposed as others end, so no more are queued than run at a time."""
    from nos_repro.launch.slurm.launcher import Slurm  # needs Submitit, which an extra brings

    depth = settings.array_parallelism if proposing else None
    per_pack = jobs_per_pack(settings, seconds)
    return Slurm(settings, root / "slurm", name, per_pack=per_pack, depth=depth, note=say)


def jobs_per_pack(settings: LauncherSettings, seconds: Callable[[], float]) -> int:
    """Jobs per SLURM job: as many as fill ``job_minutes``, if set, else ``trials_per_job``."""
    if settings.job_minutes is None:
        return settings.trials_per_job or 1
    return max(1, int(settings.job_minutes * 60 / max(seconds(), 1e-3)))


def trial_seconds(study: Study, conditions: Conditions, epochs: int | None = None) -> float:
    """What a trial of the study takes (or its first ``epochs``), estimated from a few timed steps
    on this machine."""
    prepare_data(study, conditions)
    keep_freed_memory()
    row = next(iter(study.rows.values()))
    trial = sweep_trial(study, row, points(study, row)[0])
    return measure(trial, conditions).of(study.training, 0, epochs or study.training.epochs)


def run_study(
    study: Study,
    store: Store,
    launcher: Launcher[TrialJob],
    conditions: Conditions,
    *,
    retry: bool = False,
    tracker: Tracker | None = None,
) -> int:
    """Runs what has no record; returns how many trials have no result (failed, or lost)."""
    prepare_data(study, conditions)
    display = make_display()
    try:
        rows = StudyRun(study, store, launcher, conditions, display, retry, tracker).run()
    finally:
        display.close()
    return sum(row.failed + row.missing for row in rows)


def detach(
    study: Study,
    store: Store,
    launcher: Slurm[TrialJob],
    conditions: Conditions,
    *,
    retry: bool = False,
    tracker: Tracker | None = None,
) -> tuple[dict[str, str], int, str]:
    """Queues what can be started now, and returns without waiting for it.

    Returns SLURM's job numbers by trial identity, how many trials are not queued, and why. Raises
    LaunchError if SLURM refuses, ConfigError or DataError before anything is queued.
    """
    prepare_data(study, conditions)
    study_run = StudyRun(study, store, launcher, conditions, PlainStudyDisplay(), retry, tracker)
    ready = study_run.hand_over()
    obstacle = launcher.queue()
    return launcher.queued, ready - len(launcher.queued) - launcher.ended, obstacle


def prepare_data(study: Study, conditions: Conditions) -> None:
    """Reads the study's data once, so that missing data is one error before any trial starts, as
    is a model that cannot be sharded."""
    values = dict(study.task)
    name = values.pop("name")
    settings = make_settings(name, values)
    task = TASKS.find(name)
    if conditions.device_settings.shard:
        check_shardable(task, study.training)
    data = task.make_data(settings, data_dir=conditions.data_dir, seed=0)
    if not isinstance(data, TaskData):
        raise ConfigError(f"task {name}: make_data must return a TaskData, got {data!r}")
    data.prepare()
