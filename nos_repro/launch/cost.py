"""The cost of a study per row: predicted from a few timed steps, and actual, from its records."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.estimate import Cost, Planned, measure, model_key
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Leg
from nos_repro.experiments.store import Store
from nos_repro.launch.device_timings import checked_costs, held_as, stored_checks
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.work import keep_freed_memory

GPU_HOURS = "GPU-hours"
COUNTED_CORES = re.compile(r"\(\d+ cores\)$")
"""The end of a CPU's name in a record's provenance; a GPU's has none."""


@dataclass(frozen=True)
class Unit:
    """A unit of cost: an hour of a trial is ``devices`` hours of cores or GPUs."""

    name: str
    devices: int

    def hours(self, seconds: float) -> float:
        return seconds * self.devices / 3600


@dataclass(frozen=True)
class Prices:
    """What each distinct model costs, where that was measured, and the unit of that device.

    ``fit`` says whether it is the kind of device that the trials will have: a CPU's hours say
    nothing of a GPU's.
    """

    costs: Mapping[str, Cost]
    unit: Unit
    source: str
    fit: bool = True

    def lines(self) -> list[str]:
        if self.fit:
            return [f"  measured: {self.source}"]
        return [
            f"  {NO_GPU_HOURS}; these are core-hours of this machine's CPU, from a few timed steps"
        ]


NO_GPU_HOURS = (
    "GPU-hours are not known: nothing of this was timed on a GPU (--probe times it in a short job"
    " on the cluster, `check-device` on a machine that has one)"
)


@dataclass(frozen=True)
class RowCost:
    """A row's trials and seconds of training; a shared trial counts in the first of its rows.

    ``left`` is predicted for what is still to be trained. ``taken`` is what the finished trials
    took, according to their records, and ``predicted`` is what this machine predicts for them.
    """

    row: str
    trials: int
    ended: int
    left: float
    predicted: float
    taken: float


def unit_of(settings: LauncherSettings | None, threads: int) -> Unit:
    """GPU-hours if trials run on GPUs, else CPU-hours, counted per core."""
    if settings is not None and settings.name == "slurm":
        if settings.gpus:
            return Unit(GPU_HOURS, settings.gpus * settings.nodes)
        cores = settings.cpus * settings.processes_per_node * settings.nodes
        return Unit("CPU-hours", cores)
    if torch.cuda.is_available():
        return Unit(GPU_HOURS, 1)
    return Unit("CPU-hours", threads)


def measure_models(
    planned: Sequence[Planned], conditions: Conditions, threads: int
) -> dict[str, Cost]:
    """The cost of each distinct model, from a few timed steps of the first trial that uses it."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    costs: dict[str, Cost] = {}
    for entry in planned:
        key = model_key(entry.trial)
        if key not in costs:
            costs[key] = measure(entry.trial, conditions)
    return costs


def timed_here(settings: LauncherSettings | None) -> bool:
    """Whether this machine has the kind of device that the trials will have."""
    on_gpus = settings is not None and settings.name == "slurm" and settings.gpus > 0
    return torch.cuda.is_available() or not on_gpus


def steps_here() -> str:
    device = "GPU" if torch.cuda.is_available() else "CPU"
    return f"a few timed steps on this machine's {device}"


def prices_of(
    planned: Sequence[Planned],
    store: Store,
    conditions: Conditions,
    settings: LauncherSettings | None,
    threads: int,
) -> Prices:
    """What a plan costs. For GPUs: from the study's own records that were made on GPUs, from a
    check of such a device (`check-device`), or from a few timed steps if there is a GPU here. If
    there is nothing of that, what a CPU takes, which says so."""
    unit = unit_of(settings, threads)
    if unit.name == GPU_HOURS:
        on_cluster = settings is not None and settings.name == "slurm"
        name = None if on_cluster else torch.cuda.get_device_name()
        found = _recorded(planned, store, conditions, unit, name) or _checked(
            planned, store, conditions, unit, name
        )
        if found is not None:
            return found
    costs = measure_models(planned, conditions, threads)
    if not timed_here(settings):
        return Prices(costs, Unit("CPU core-hours", threads), "", fit=False)
    if unit.name == GPU_HOURS:
        return _of_one_gpu(costs, unit, steps_here())
    return Prices(costs, unit, steps_here())


def _of_one_gpu(costs: Mapping[str, Cost], unit: Unit, source: str) -> Prices:
    """What was timed on one GPU. GPUs that train a trial together are taken to share its work
    without loss."""
    shares = {
        key: dataclasses.replace(
            cost, step=cost.step / unit.devices, evaluation=cost.evaluation / unit.devices
        )
        for key, cost in costs.items()
    }
    together = f", shared by {unit.devices} without loss" if unit.devices > 1 else ""
    return Prices(shares, unit, f"{source}{together}")


def _checked(
    planned: Sequence[Planned], store: Store, conditions: Conditions, unit: Unit, name: str | None
) -> Prices | None:
    """What a check of such a GPU says, of one that is called ``name``; None if none has timed every
    model."""
    checks = stored_checks(store.root.parent.parent)
    found = checked_costs(planned, checks, conditions.device_settings, name)
    if found is None:
        return None
    costs, check = found
    return _of_one_gpu(costs, unit, f"check-device on {check.device}, {check.date[:10]}")


def _recorded(
    planned: Sequence[Planned], store: Store, conditions: Conditions, unit: Unit, name: str | None
) -> Prices | None:
    """What the records of finished trials say of GPUs, of those called ``name``, with the same
    settings of the device; None if a model has none. A trial is taken to need as many GPU-seconds
    by any number of GPUs; each of its processes had one."""
    seconds: dict[str, list[float]] = {model_key(entry.trial): [] for entry in planned}
    devices = set()
    for entry in planned:
        record = store.record(entry.trial)
        if record is None or record.status != "finished" or record.partial:
            continue
        device = str(record.provenance.get("device", ""))
        alike = held_as(
            entry.trial, conditions.device_settings, record.provenance.get("device_settings")
        )
        if alike and device and not COUNTED_CORES.search(device) and name in (None, device):
            devices.add(device)
            by = max(1, record.provenance.get("processes", 1)) / unit.devices
            epochs = entry.trial.training.epochs
            seconds[model_key(entry.trial)].append(by * record.seconds / epochs)
    if not seconds or not all(seconds.values()):
        return None
    costs = {key: Cost(sum(each) / len(each), 0.0, 1) for key, each in seconds.items()}
    return Prices(costs, unit, f"finished trials of this study on {', '.join(sorted(devices))}")


def leg_seconds(leg: Leg, costs: Mapping[str, Cost]) -> float:
    return costs[model_key(leg.trial)].of(leg.trial.training, leg.start, leg.end)


def row_costs(planned: Sequence[Planned], costs: Mapping[str, Cost], store: Store) -> list[RowCost]:
    """The cost of every row of the plan, in order."""
    seen: set[str] = set()
    rows: dict[str, RowCost] = {}
    for entry in planned:
        row = rows.get(entry.row, RowCost(entry.row, 0, 0, 0.0, 0.0, 0.0))
        row = dataclasses.replace(row, trials=row.trials + 1, ended=row.ended + (entry.leg is None))
        if entry.trial.id not in seen:
            row = _added(row, entry, costs, store)
        seen.add(entry.trial.id)
        rows[entry.row] = row
    return list(rows.values())


def _added(row: RowCost, entry: Planned, costs: Mapping[str, Cost], store: Store) -> RowCost:
    if entry.leg is not None:
        return dataclasses.replace(row, left=row.left + leg_seconds(entry.leg, costs))
    record = store.record(entry.trial)
    if record is None or record.status != "finished":
        return row
    whole = Leg(entry.trial, 0, entry.trial.training.epochs)
    return dataclasses.replace(
        row,
        predicted=row.predicted + leg_seconds(whole, costs),
        taken=row.taken + record.seconds,
    )


def fitting(rows: Sequence[RowCost], seconds: float) -> list[str]:
    """The rows that can be completed within ``seconds``, chosen cheapest first, which completes the
    most (ties: first in the file). Returned in the file's order."""
    chosen = set()
    for row in sorted(rows, key=lambda row: row.left):
        if row.left <= seconds:
            chosen.add(row.row)
            seconds -= row.left
    return [row.row for row in rows if row.row in chosen]


def within_budget(
    study: Study, store: Store, planned: Sequence[Planned], prices: Prices, hours: float
) -> Study:
    """The study with only the rows that fit into ``hours``. Raises ConfigError if none fits, or if
    the hours of the device are not known."""
    if not prices.fit:
        raise ConfigError(f"--budget: {NO_GPU_HOURS}")
    unit = prices.unit
    rows = row_costs(planned, prices.costs, store)
    names = fitting(rows, hours * 3600 / unit.devices)
    if not names:
        least = min(unit.hours(row.left) for row in rows)
        raise ConfigError(
            f"--budget {hours:g}: no row fits; the cheapest takes {least:.2g} {unit.name}"
        )
    return dataclasses.replace(study, rows={name: study.rows[name] for name in names})


def check_budget(study: Study, hours: float) -> None:
    if not hours > 0:
        raise ConfigError(f"--budget must be a positive number of hours, got {hours:g}")
    if study.halving is not None:
        raise ConfigError(
            "--budget: halving ranks all rows of a study against each other; leave it out"
        )


def cost_lines(rows: Sequence[RowCost], unit: Unit, budget: float | None = None) -> list[str]:
    """A line per row: trials ended, hours to run, and the actual hours of finished trials."""
    names = set(fitting(rows, budget * 3600 / unit.devices)) if budget is not None else set()
    lines = [f"per row, in {unit.name}:"]
    lines += [_line(row, unit, budget is not None, row.row in names) for row in rows]
    total = sum(row.left for row in rows)
    lines.append(f"  total: {unit.hours(total):.2f} {unit.name} to run")
    if budget is not None:
        chosen = sum(row.left for row in rows if row.row in names)
        lines.append(
            f"  a budget of {budget:g} fits {len(names)} of {len(rows)} rows, cheapest first:"
            f" {unit.hours(chosen):.2f} {unit.name}"
        )
    return [*lines, *accuracy_lines(rows, unit)]


def _line(row: RowCost, unit: Unit, budgeted: bool, fits: bool) -> str:
    mark = ("+ " if fits else "- ") if budgeted else "  "
    text = f"{mark}{row.row:<36} {row.ended}/{row.trials} ended, {unit.hours(row.left):.2f} to run"
    if row.taken:
        text += f"; took {unit.hours(row.taken):.2f}, predicted {unit.hours(row.predicted):.2f}"
    return text


def accuracy_lines(rows: Sequence[RowCost], unit: Unit) -> list[str]:
    """Predicted against actual time, over the finished trials."""
    taken, predicted = (sum(getattr(row, key) for row in rows) for key in ("taken", "predicted"))
    if not taken or not predicted:
        return []
    return [
        f"  finished trials took {unit.hours(taken):.2f} {unit.name}; predicted:"
        f" {unit.hours(predicted):.2f} (actual / predicted: {taken / predicted:.2f})"
    ]
