"""Where each row of a board stands: what the records of its studies say, task by task.

A task or row that is not complete is named with the reason. Nothing is made up for it: a row has a
score only if it has a time on every task that has a target.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.columns import metric_of
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.experiments.settings_file import read_mapping
from nos_repro.report.board.measures import (
    TARGET_SHARE,
    Bounded,
    Floats,
    Runs,
    Spread,
    all_runs,
    bounded,
    charged,
    drawn_runs,
    mean_spread,
    spread_of,
    targets_at,
    times_to,
)
from nos_repro.report.claims.results import Results
from nos_repro.report.claims.scores import by_seed
from nos_repro.report.pages.ranking import main_column
from nos_repro.report.pages.targets import Profile, profiles_of
from nos_repro.report.statistics import Comparison, Verdict, compare

LEAD, REFERENCE = "modern", "AdamW"
"""The study that the shipped board is called by, and the row that sets its targets."""


@dataclass(frozen=True)
class Placed:
    """A row on one task. ``spread``: its speed-up's; None for a single seed."""

    time: float
    """The share of the training until its curve reaches the target; infinite if it never does."""
    speedup: Bounded
    spread: Spread | None
    end: Comparison
    """The task's number (`BoardTask.column`) less the reference's, paired by seed; larger is
    better."""
    pace: float
    """The seconds of an update over the reference's."""
    curve: list[tuple[float, float]]
    """The mean of the runs' validation metric by epoch, in its own unit; none if one diverged."""
    chosen: str
    tried: int
    edges: list[str]
    stale: bool

    @property
    def verdict(self) -> Verdict:
        """What the numbers at the end say of the row against the reference."""
        return self.end.verdict


@dataclass(frozen=True)
class BoardTask:
    """A study of the board. ``target`` is None while the reference is not complete there, and
    ``why`` says so; ``missing`` says it of the other rows."""

    name: str
    study: Study
    column: str
    target: float | None
    seeds: list[int]
    placed: dict[str, Placed]
    missing: dict[str, str]
    why: str = ""

    @property
    def metric(self) -> str:
        """The metric that is timed, on the validation part."""
        return f"validation {metric_of(self.study.task['name'], 'best_val').name}"


@dataclass(frozen=True)
class BoardRow:
    """A row over all tasks that have a target. ``score`` and ``profile`` are None if it has no
    time on one of them, which ``missing`` names."""

    name: str
    placed: dict[str, Placed]
    missing: list[str]
    score: Bounded | None
    pace: float
    profile: Profile | None

    def tasks(self, verdict: Verdict) -> list[str]:
        """Where it ends so, compared with the reference."""
        return [task for task, found in self.placed.items() if found.verdict == verdict]

    @property
    def reached(self) -> int:
        """Tasks whose target it reaches."""
        return sum(math.isfinite(found.time) for found in self.placed.values())


@dataclass(frozen=True)
class BoardStanding:
    """A board at a scale. ``rows``: by their scores, those without one last."""

    lead: str
    scale: str
    folder: Path
    reference: str
    share: float
    tasks: list[BoardTask]
    rows: list[BoardRow]
    problems: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    @property
    def counted(self) -> list[BoardTask]:
        """The tasks that have a target."""
        return [task for task in self.tasks if task.target is not None]


def siblings(files: Mapping[str, Path], lead: str = LEAD) -> list[str]:
    """The study of that name and those whose file is based on it, by their names."""
    based = [
        name
        for name, path in files.items()
        if path.stem != lead and Path(str(_base(path))).stem == lead
    ]
    return [lead, *based]


def _base(path: Path) -> Any:
    try:
        return read_mapping(path).get("base", "")
    except ConfigError:  # loading the file says what is wrong with it
        return ""


def begun_boards(results: Results) -> list[tuple[list[str], str]]:
    """The boards that ship and have records of two tasks or more: their studies, and the scale."""
    if LEAD not in results.files:
        return []
    names = siblings(results.files)
    found = []
    for scale in results.scales(LEAD):
        begun = [name for name in names if scale in _scales(results, name)]
        if len(begun) > 1:
            found.append((names, scale))
    return found


def _scales(results: Results, name: str) -> list[str]:
    try:
        return results.scales(name)
    except NosError:  # the report on that study says what is wrong
        return []


def board_standing(
    results: Results,
    names: Sequence[str],
    scale: str,
    *,
    reference: str = REFERENCE,
    share: float = TARGET_SHARE,
) -> BoardStanding:
    """The board of the studies of these names. Raises ConfigError for a reference that no study
    has, a share outside (0, 1], or what loading a study raises."""
    if not 0 < share <= 1:
        raise ConfigError(f"--share must be above 0 and at most 1, got {share:g}")
    read = {name: results.study(name, scale) for name in names}
    known = list(dict.fromkeys(row for _, rows in read.values() for row in rows))
    if reference not in known:
        raise ConfigError(f"--target: {unknown('row', reference, known)}")
    lead = names[0]
    tasks = [
        _task(number, _short(name, study, lead), study, rows, known, reference, share)
        for number, (name, (study, rows)) in enumerate(read.items())
    ]
    counted = [task for task in tasks if task.target is not None]
    shown = _with_profiles([_row(name, counted) for name in known], counted)
    return BoardStanding(
        lead=lead,
        scale=scale,
        folder=results.root / lead / scale,
        reference=reference,
        share=share,
        tasks=tasks,
        rows=sorted(shown, key=lambda row: -math.inf if row.score is None else row.score.value,
                    reverse=True),
        problems=list(results.problems),
        records=[r for _, rows in read.values() for row in rows.values() for r in row.records],
    )  # fmt: skip


def _short(name: str, study: Study, lead: str) -> str:
    """`wrn` for modern_wrn, where modern leads; `convnet`, its task, for modern itself."""
    return str(study.task["name"]) if name == lead else name.removeprefix(f"{lead}_")


def _task(
    number: int,
    name: str,
    study: Study,
    rows: Mapping[str, Outcome],
    known: Sequence[str],
    reference: str,
    share: float,
) -> BoardTask:
    column = main_column(study)
    empty = BoardTask(name, study, column, None, [], {}, {})
    first = rows.get(reference)
    why = "the study has no such row" if first is None else _incomplete(first)
    if first is None or why:
        return _without(empty, f"{reference}: {why}")
    if any(record.status == "diverged" for record in first.counting):
        return _without(empty, f"{reference}: a run diverged")
    seeds = sorted(_seed(record) for record in first.counting)
    epochs = study.training.epochs
    ours = _runs(first, seeds)
    whole = ours.curves(all_runs(len(seeds)))
    target = targets_at(ours, whole, share * epochs)
    if not np.isfinite(target).all():
        return _without(empty, f"nothing is evaluated in the first {share:.0%} of the training")
    draws = drawn_runs(len(seeds), number) if len(seeds) > 1 else None
    timed = _Timed(ours, target, draws, share, epochs)
    placed, missing = {}, {}
    for row in known:
        found = rows.get(row)
        why = "the study has no such row" if found is None else _incomplete(found)
        if found is not None and found.counting and not why:
            own = {_seed(record) for record in found.counting}
            why = "" if own == set(seeds) else f"its seeds are not {reference}'s"
        if found is None or why:
            missing[row] = why
        else:
            placed[row] = _place(study, column, found, first, seeds, timed)
    sign = first.counting[0].sign
    return BoardTask(name, study, column, sign * float(target[0]), seeds, placed, missing)


def _without(task: BoardTask, why: str) -> BoardTask:
    return dataclasses.replace(task, why=why)


class _Timed:
    """The reference's targets and times: those of all seeds, and of each resample."""

    def __init__(self, runs: Runs, target: Floats, draws: Any, share: float, epochs: float) -> None:
        self.target, self.draws, self.epochs = target, draws, epochs
        self.time = times_to(runs, runs.curves(all_runs(len(runs.values))), target, epochs)
        if draws is not None:
            curves = runs.curves(draws)
            self.targets = targets_at(runs, curves, share * epochs)
            self.times = times_to(runs, curves, self.targets, epochs)

    def spread(self, runs: Runs) -> Spread | None:
        if self.draws is None:
            return None
        times = times_to(runs, runs.curves(self.draws), self.targets, self.epochs)
        return spread_of(charged(self.times) / charged(times), len(runs.values))


def _place(
    study: Study,
    column: str,
    row: Outcome,
    reference: Outcome,
    seeds: Sequence[int],
    timed: _Timed,
) -> Placed:
    runs = _runs(row, seeds)
    curve = runs.curves(all_runs(len(seeds)))
    time = times_to(runs, curve, timed.target, timed.epochs)
    spread = timed.spread(runs)
    sign = metric_of(study.task["name"], column).sign
    mine, its = (
        by_seed(study, each, lambda r: sign * r.column(column)) for each in (row, reference)
    )
    way = reference.counting[0].sign
    points = zip(runs.epochs.tolist(), (way * curve[0]).tolist(), strict=True)
    return Placed(
        time=float(time[0]),
        speedup=bounded(float((charged(timed.time) / charged(time))[0]), spread),
        spread=spread,
        end=compare(mine, its),
        pace=_pace(row) / _pace(reference) if _pace(reference) else math.nan,
        curve=[] if runs.diverged.any() else list(points),
        chosen=str(row.chosen.point) if row.chosen is not None else "",
        tried=len(row.sweep),
        edges=row.edges,
        stale=row.stale,
    )


def _incomplete(outcome: Outcome) -> str:
    """Why a row has no time here; "" if it has one."""
    if outcome.missing or outcome.growing or not any(s.record for s in outcome.sweep):
        return "not run yet"
    if any(record.status == "failed" for record in outcome.records):
        return "a run failed"
    if not outcome.counting:
        return "" if outcome.diverged else "no run finished"
    return ""


def _seed(record: Record) -> int:
    return int(record.trial["seed"])


def _runs(outcome: Outcome, seeds: Sequence[int]) -> Runs:
    """In the order of ``seeds``. If every trial of its sweep diverged, so does each run."""
    by = {_seed(r): _points(r) for r in outcome.counting if r.status == "finished"}
    diverged = np.array([seed not in by for seed in seeds])
    points = [by.get(seed, {}) for seed in seeds]
    shared = sorted(set.intersection(*map(set, filter(None, points)))) if any(points) else [1.0]
    values = [[own.get(epoch, 0.0) for epoch in shared] for own in points]
    return Runs(np.array(shared, dtype=float), np.array(values, dtype=float), diverged)


def _points(record: Record) -> dict[float, float]:
    """The validation metric by epoch, as a clone has it; larger is better."""
    key = f"val_{record.metric}"
    return {p["epoch"]: record.sign * p[key] for p in record.thinned().metrics if key in p}


def _pace(outcome: Outcome) -> float:
    """The mean seconds of an example over the row's runs."""
    paces = [1 / r.examples_per_second for r in outcome.counting if r.examples_per_second > 0]
    return statistics.fmean(paces) if paces else math.nan


def _row(name: str, tasks: Sequence[BoardTask]) -> BoardRow:
    placed = {task.name: task.placed[name] for task in tasks if name in task.placed}
    missing = [task.name for task in tasks if name not in task.placed]
    score = None
    if placed and not missing:
        found = list(placed.values())
        value = statistics.geometric_mean(each.speedup.value for each in found)
        spreads = [each.spread for each in found if each.spread is not None]
        score = bounded(value, mean_spread(spreads) if len(spreads) == len(found) else None)
    paces = [each.pace for each in placed.values() if each.pace > 0]
    pace = statistics.geometric_mean(paces) if paces else math.nan
    return BoardRow(name, placed, missing, score, pace, None)


def _with_profiles(rows: list[BoardRow], tasks: Sequence[BoardTask]) -> list[BoardRow]:
    """The performance profiles of the rows with a score; a problem is a task (see
    `pages.targets`)."""
    scored = [number for number, row in enumerate(rows) if row.score is not None]
    if not scored:
        return rows
    times = np.array([[rows[number].placed[task.name].time for task in tasks] for number in scored])
    solved = np.isfinite(times).any(axis=0)
    found = {each.number: each for each in profiles_of(scored, times[:, solved])}
    return [dataclasses.replace(row, profile=found.get(number)) for number, row in enumerate(rows)]
