"""`run` and `run --dry-run`: a study, on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from nos_repro.data import data_folder
from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.estimate import Cost, Planned, measure, model_key, plan
from nos_repro.experiments.grid import points
from nos_repro.experiments.halving import stages, whole
from nos_repro.experiments.schema import Halving, Study
from nos_repro.experiments.selection import Leg, outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import make_settings
from nos_repro.launch.base import Launcher
from nos_repro.launch.drive import Drive
from nos_repro.launch.local import InProcess, LocalWorkers, keep_freed_memory
from nos_repro.launch.progress import duration, make_display
from nos_repro.launch.trial_job import TrialJob
from nos_repro.tasks import find_task


def conditions_of(data: Path | None, checkpoint_seconds: float) -> Conditions:
    """Where the data lies and how often a trial saves. Raises ConfigError."""
    if not checkpoint_seconds >= 0:
        raise ConfigError(f"--checkpoint-seconds must not be negative, got {checkpoint_seconds}")
    return Conditions(data_folder(data), checkpoint_seconds)


def worker_count(workers: int | None, threads: int) -> int:
    """Trials at a time: as asked, else one a GPU, else as many as the cores carry."""
    if threads < 1:
        raise ConfigError(f"--threads must be at least 1, got {threads}")
    if workers is not None:
        if workers < 0:
            raise ConfigError(f"--workers must not be negative, got {workers}")
        return workers
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // threads)


def launcher_of(workers: int | None, threads: int) -> Launcher[Any]:
    """Worker processes of this machine; 0 workers: this process."""
    count = worker_count(workers, threads)
    if count == 0:
        torch.set_num_threads(threads)
        return InProcess()
    return LocalWorkers(count, threads)


def run_study(
    study: Study,
    store: Store,
    launcher: Launcher[TrialJob],
    conditions: Conditions,
    *,
    retry: bool = False,
) -> int:
    """Runs what has no record; returns how many trials have no result (failed, or lost)."""
    prepare_data(study, conditions)
    display = make_display()
    try:
        rows = Drive(study, store, launcher, conditions, display, retry=retry).run()
    finally:
        display.close()
    return sum(row.failed + row.missing for row in rows)


def prepare_data(study: Study, conditions: Conditions) -> None:
    """Reads the study's data once, so that a missing set is one error before any trial starts."""
    values = dict(study.task)
    name = values.pop("name")
    settings = make_settings(name, values)
    find_task(name).make_data(settings, data_dir=conditions.data_dir, seed=0).prepare()


def dry_run(
    study: Study, store: Store, conditions: Conditions, workers: int | None, threads: int
) -> str:
    """The trials, what each would take, and the hours in all on this machine."""
    prepare_data(study, conditions)
    keep_freed_memory()
    torch.set_num_threads(threads)
    count = max(1, worker_count(workers, threads))
    planned = plan(study, store)
    costs: dict[str, Cost] = {}
    for entry in planned:
        key = model_key(entry.trial)
        if key not in costs:
            costs[key] = measure(entry.trial, conditions)
    lines = [f"{study.study} at scale {study.scale}: {len(planned)} trials"]
    lines += [_line(entry, costs) for entry in planned]
    legs = {entry.leg.trial.id: entry.leg for entry in planned if entry.leg is not None}
    seconds = sum(_seconds(leg, costs) for leg in legs.values())
    if study.halving is not None:
        cost = costs[model_key(planned[0].trial)]
        later = list(_later(study, study.halving, store, cost))
        lines += [line for line, _ in later] + [_saved(study, study.halving)]
        seconds += sum(more for _, more in later)
    lines.append(
        f"{len(legs)} to run, {duration(seconds)} of work: about {duration(seconds / count)} with"
        f" {count} workers of {threads} cores here (a few timed steps a model; the optimizer of"
        " the first row stands for all)"
    )
    return "\n".join(lines)


def _line(entry: Planned, costs: dict[str, Cost]) -> str:
    what = "done" if entry.leg is None else duration(_seconds(entry.leg, costs))
    if entry.leg is not None and entry.leg.end < entry.trial.training.epochs:
        what += f" to epoch {entry.leg.end}"
    return f"  {entry.row:<36} {entry.stage:<6} {entry.trial.id}  {entry.trial.label()}  [{what}]"


def _seconds(leg: Leg, costs: dict[str, Cost]) -> float:
    return costs[model_key(leg.trial)].of(leg.trial.training, leg.start, leg.end)


def _later(study: Study, halving: Halving, store: Store, cost: Cost) -> Iterator[tuple[str, float]]:
    """What comes after the rung that the rows are on the way to, and its seconds."""
    now = {row.name: row.standing for row in outcomes(study, store) if row.standing is not None}
    for stage in stages(halving, study.training.epochs, now):
        seconds = stage.rows * cost.of(study.training, stage.start, stage.end)
        line = (
            f"  after epoch {stage.start} the best {stage.rows} of {stage.of} rows go on to"
            f" epoch {stage.end}, a point each  [{duration(seconds)}]"
        )
        yield line, seconds


def _saved(study: Study, halving: Halving) -> str:
    trials = {name: len(points(study, row)) for name, row in study.rows.items()}
    halved = whole(halving, study.training.epochs, trials)
    full = sum(trials.values()) * study.training.epochs
    return (
        f"halving trains {halved} epochs in all, {1 - halved / full:.0%} less than the {full} of"
        " every trial at full length"
    )
