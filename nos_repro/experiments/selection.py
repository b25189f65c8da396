"""What a study's records say, row by row, and which trials are still to run.

A row's learning rate is chosen on a validation column of its sweep; its cells come from the
repeats (or, without repeats, from the sweep's best trial). Only trials of exactly the settings
asked for count. A divergence is a result: it loses every comparison, and among repeats it is
counted and shown. Where the study halves its rows (`halving.py`), the sweep's trials are the race.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nos_repro.experiments.code import trial_code
from nos_repro.experiments.grid import Point, points, repeat_trials, sweep_trials
from nos_repro.experiments.growing import Span, Swept, grow
from nos_repro.experiments.halving import Standing, score, standings, why_out
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Halving, Row, Study
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial


@dataclass(frozen=True)
class Leg:
    """Training to do now: a trial, from the epoch on record to the one that it should reach."""

    trial: Trial
    start: int
    end: int


@dataclass(frozen=True)
class Scored:
    """A point of the sweep, its trial, and the trial's record (None: it has not ended)."""

    point: Point
    trial: Trial
    record: Record | None
    score: float
    """Higher is better whatever the metric; -inf for a divergence, NaN for none or a failure."""
    leg: Leg | None = None
    """The part of it to train now; None also for a trial that waits for others at a rung."""

    @property
    def waiting(self) -> bool:
        """Whether it has reached a rung that others have not reached yet."""
        return self.record is None and self.leg is None


@dataclass(frozen=True)
class SampleMean:
    """A cell: mean and sample standard deviation over ``n`` trials."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Outcome:
    """Everything that the records say about one row."""

    name: str
    row: Row
    sweep: list[Scored]
    chosen: Scored | None
    repeats: list[tuple[Trial, Record | None]]
    edges: list[str] = field(default_factory=list)
    """Swept keys whose chosen value, if not 0, is the least or greatest of 3 or more tried."""
    standing: Standing | None = None
    """Where the row stands in the race; None if the study has no `halving`."""
    growing: bool = False
    """Whether more rates may still be tried, of this row or of those that it is compared with."""

    @functools.cached_property
    def trials(self) -> list[Trial]:
        return [scored.trial for scored in self.sweep] + [trial for trial, _ in self.repeats]

    def is_chosen(self, scored: Scored) -> bool:
        return self.chosen is not None and scored.point == self.chosen.point

    @functools.cached_property
    def counting(self) -> list[Record]:
        """The records that the row's cells are made of."""
        if self.repeats:
            return [record for _, record in self.repeats if record is not None]
        if self.chosen is not None and self.chosen.record is not None:
            return [self.chosen.record]
        return []

    @functools.cached_property
    def records(self) -> list[Record]:
        own = [s.record for s in self.sweep if s.record is not None]
        return own + [record for _, record in self.repeats if record is not None]

    @functools.cached_property
    def missing(self) -> int:
        """Trials of the current stage that have not ended."""
        waiting = sum(scored.record is None for scored in self.sweep)
        return waiting + sum(record is None for _, record in self.repeats)

    @property
    def legs(self) -> list[Leg]:
        """The training that the row needs now."""
        sweep = [scored.leg for scored in self.sweep if scored.leg is not None]
        return sweep + [Leg(t, 0, t.training.epochs) for t, r in self.repeats if r is None]

    @property
    def diverged(self) -> int:
        """Divergences among the trials that make the cells (in the sweep, if all diverged)."""
        if self.chosen is None and not self.missing:
            return sum(scored.score == -math.inf for scored in self.sweep)
        return sum(record.status == "diverged" for record in self.counting)

    @functools.cached_property
    def failed(self) -> int:
        return sum(record.status == "failed" for record in self.records)

    @functools.cached_property
    def stale_records(self) -> frozenset[str]:
        """The ids of the records that other code has made."""
        return frozenset(record.id for record in self.records if is_stale(record))

    @property
    def stale(self) -> bool:
        """Whether a record that makes the cells, or chose the point, was made by other code."""
        return bool(self.stale_records)

    def number(self, column: str) -> SampleMean | None:
        """The cell of ``column``; None if no trial of the row has it yet."""
        if column not in self._numbers:
            self._numbers[column] = self._number(column)
        return self._numbers[column]

    @functools.cached_property
    def _numbers(self) -> dict[str, SampleMean | None]:
        """The cells that were asked for: several parts of a report do."""
        return {}

    def _number(self, column: str) -> SampleMean | None:
        values = [v for r in self.counting if math.isfinite(v := r.column(column))]
        if not values:
            return None
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return SampleMean(statistics.fmean(values), spread, len(values))


def is_stale(record: Record) -> bool:
    """Whether the code that made the record's numbers has changed since, or is not here."""
    try:
        return record.code != trial_code(record.trial)
    except Exception:  # noqa: BLE001 what its settings name is not here, or breaks: a user's module
        return True


def outcome(study: Study, name: str, store: Store) -> Outcome:
    """Reads one row's records. The repeats appear once the sweep has ended and has a winner."""
    if depend_on_each_other(study):
        return next(row for row in outcomes(study, store) if row.name == name)
    return _outcome(study, name, _sweep(study, name, store), store)


def _sweep(study: Study, name: str, store: Store, span: Span | None = None) -> list[Scored]:
    row = study.rows[name]
    grid = points(study, row, span)
    trials = sweep_trials(study, row, grid)
    return [_score(study, *pair, store) for pair in zip(grid, trials, strict=True)]


def _outcome(
    study: Study, name: str, sweep: list[Scored], store: Store, *, growing: bool = False
) -> Outcome:
    row = study.rows[name]
    running = growing or any(scored.record is None for scored in sweep)
    usable = [scored for scored in sweep if scored.score > -math.inf]
    chosen = max(usable, key=lambda scored: scored.score) if usable and not running else None
    repeats: list[tuple[Trial, Record | None]] = []
    if chosen is not None:
        fresh = repeat_trials(study, row, chosen.point)
        repeats = [(trial, ended(store, trial)) for trial in fresh]
    edges = _edges(sweep, chosen)
    return Outcome(name, row, sweep, chosen, repeats, edges, growing=growing)


def outcomes(study: Study, store: Store) -> list[Outcome]:
    with store.at_one_moment():
        if study.halving is not None:
            return _race(study, study.halving, store)
        if study.growths:
            return _grown(study, store)
        return [outcome(study, name, store) for name in study.rows]


def depend_on_each_other(study: Study) -> bool:
    """Whether what a row trains depends on the other rows' records."""
    return study.halving is not None or bool(study.growths)


def _grown(study: Study, store: Store) -> list[Outcome]:
    """The rows of a study whose rates grow: how many a row tries depends on all of them."""

    def swept(name: str, span: Span) -> Swept:
        sweep = _sweep(study, name, store, span)
        usable = [scored for scored in sweep if scored.score > -math.inf]
        best = max(usable, key=lambda scored: scored.score).point.lr if usable else None
        rates = study.growths[name].rates(span)
        return Swept(
            waiting=any(scored.record is None for scored in sweep),
            failed=any(math.isnan(scored.score) for scored in sweep),
            best=None if best is None else span.low + rates.index(best),
        )

    spans, final = grow(study.growths, swept)
    rows = []
    for name in study.rows:
        sweep = _sweep(study, name, store, spans.get(name))
        growing = name in spans and not final
        rows.append(_outcome(study, name, sweep, store, growing=growing))
    return rows


def stops(rows: Iterable[Outcome]) -> Iterator[tuple[Outcome, Trial, Record]]:
    """The records of the trials that a rung has stopped, each trial once: if rows share one, the
    first row speaks for it; if it is still in for any of them, none does."""
    swept = [(row, scored.trial, scored.record) for row in rows for scored in row.sweep]
    said = {trial.id for _, trial, record in swept if record is None}
    for row, trial, record in swept:
        if record is not None and record.status == "stopped" and trial.id not in said:
            said.add(trial.id)
            yield row, trial, record


def ended(store: Store, trial: Trial) -> Record | None:
    """The trial's record; None too if a study's `halving` has left it half-way."""
    record = store.record(trial)
    return None if record is not None and record.partial else record


def _score(study: Study, point: Point, trial: Trial, store: Store) -> Scored:
    record = ended(store, trial)
    if record is None:
        return Scored(point, trial, None, math.nan, Leg(trial, 0, trial.training.epochs))
    if record.status == "failed":
        return Scored(point, trial, record, math.nan)
    if record.status == "diverged":
        return Scored(point, trial, record, -math.inf)
    return Scored(point, trial, record, record.sign * record.column(study.selection.by))


def _race(study: Study, halving: Halving, store: Store) -> list[Outcome]:
    """The rows of a study that halves them: which are still in depends on all of them."""
    grids = {name: points(study, row) for name, row in study.rows.items()}
    trials = {name: sweep_trials(study, study.rows[name], grid) for name, grid in grids.items()}
    records = {name: [store.record(trial) for trial in own] for name, own in trials.items()}
    rows = []
    for name, standing in standings(halving, study.training.epochs, records).items():
        sweep = [
            _racer(halving, standing, n, grids[name], trials[name][n], record)
            for n, record in enumerate(records[name])
        ]
        best = sweep[standing.best] if standing.best is not None else None
        chosen = best if best is not None and best.score > -math.inf else None
        edges = _edges(sweep, chosen)
        rows.append(Outcome(name, study.rows[name], sweep, chosen, [], edges, standing))
    return rows


def _racer(
    halving: Halving,
    standing: Standing,
    number: int,
    grid: list[Point],
    trial: Trial,
    record: Record | None,
) -> Scored:
    """A point of a row in a race. A trial that is out counts as stopped at its rung, even if
    something else has trained it further since."""
    first = halving.rungs[0]
    failed = record is not None and record.status == "failed" and record.epoch < first
    worth = math.nan if record is None or failed else score(record, halving.by, first)
    point = grid[number]
    if number in standing.points:
        if record is not None and not record.partial:
            return Scored(point, trial, record, worth)
        reached = int(record.epoch) if record is not None else 0
        leg = Leg(trial, reached, standing.until) if reached < standing.until else None
        return Scored(point, trial, None, worth, leg)
    assert record is not None
    rung, reason = why_out(halving, standing, number, grid)
    if record.epoch >= rung:
        record = dataclasses.replace(record, status="stopped", reason=reason)
    return Scored(point, trial, record, worth)


def _edges(sweep: list[Scored], chosen: Scored | None) -> list[str]:
    if chosen is None:
        return []
    edges = []
    for key, value in chosen.point.values:
        tried: list[Any] = [dict(scored.point.values)[key] for scored in sweep]
        numbers = [v for v in tried if isinstance(v, int | float)]
        if value and len(set(numbers)) >= 3 and value in (min(numbers), max(numbers)):
            edges.append(f"{key}={value:g}")
    return edges
