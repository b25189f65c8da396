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
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.work import keep_freed_memory

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
    " on the cluster)"
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
            return Unit("GPU-hours", settings.gpus * settings.nodes)
        cores = settings.cpus * settings.processes_per_node * settings.nodes
        return Unit("CPU-hours", cores)
    if torch.cuda.is_available():
        return Unit("GPU-hours", 1)
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
    """From a few timed steps here; for GPUs that are not here, from the study's records that were
    made on GPUs. If there are none, what a CPU takes, which says so."""
    if not timed_here(settings):
        unit = unit_of(settings, threads)
        recorded = _recorded(planned, store, unit)
        if recorded is not None:
            return recorded
        costs = measure_models(planned, conditions, threads)
        return Prices(costs, Unit("CPU core-hours", threads), "", fit=False)
    costs = measure_models(planned, conditions, threads)
    device = "GPU" if torch.cuda.is_available() else "CPU"
    return Prices(
        costs, unit_of(settings, threads), f"a few timed steps on this machine's {device}"
    )


def _recorded(planned: Sequence[Planned], store: Store, unit: Unit) -> Prices | None:
    """What the records of finished trials say of GPUs; None if a model has none."""
    seconds: dict[str, list[float]] = {model_key(entry.trial): [] for entry in planned}
    devices = set()
    for entry in planned:
        record = store.record(entry.trial)
        if record is None or record.status != "finished" or record.partial:
            continue
        device = str(record.provenance.get("device", ""))
        if device and not COUNTED_CORES.search(device):
            devices.add(device)
            epochs = entry.trial.training.epochs
            seconds[model_key(entry.trial)].append(record.seconds / epochs)
    if not all(seconds.values()):
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
        f"  finished trials took {unit.hours(taken):.2f} {unit.name}; predicted from timed steps"
        f" here: {unit.hours(predicted):.2f} (actual / predicted: {taken / predicted:.2f})"
    ]
