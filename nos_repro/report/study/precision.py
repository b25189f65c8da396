"""Whether a study's precision matters: the same runs in the paper's, seed by seed.

The runs of a row's chosen point are compared with those of the same point and seeds in the
precision of the file's scale `paper` (`run` without the override makes them). Paired by seed, their
mean difference has Student's 95 % interval, which is judged against the tolerance of the metric:
within it, the precisions are `equivalent`; beyond it, they are `different`; else `undecided`. So a
difference beyond the tolerance is called equivalent in at most 2.5 % of all cases.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nos_repro.experiments.columns import STATE, metric_of
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.report.statistics import Comparison, compare
from nos_repro.report.study import protocol
from nos_repro.tasks.metrics import Metric

Equivalence = Literal["equivalent", "different", "undecided"]


@dataclass(frozen=True)
class PrecisionTest:
    """A cell in our precision less the same in the paper's, over the seeds that both have."""

    row: str
    column: str
    title: str
    metric: Metric
    tolerance: float
    comparison: Comparison

    @property
    def verdict(self) -> Equivalence:
        low, high = (self.comparison.mean + sign * self.comparison.half for sign in (-1, 1))
        if self.comparison.lost != self.comparison.other_lost:
            return "different"
        if math.isnan(low):
            return "undecided"
        if -self.tolerance <= low and high <= self.tolerance:
            return "equivalent"
        beyond = low > self.tolerance or high < -self.tolerance
        return "different" if beyond else "undecided"

    def __str__(self) -> str:
        found, signed = self.comparison, self.metric.signed
        seeds = f"{found.n} seed{'s' if found.n > 1 else ''}"
        interval = "" if math.isnan(found.half) else (
            f" [{signed(found.mean - found.half)}, {signed(found.mean + found.half)}]"
        )  # fmt: skip
        return (
            f"{self.row}, {self.title}: {signed(found.mean)}{interval} over {seeds}:"
            f" {self.verdict} (±{self.metric.decimals(self.tolerance)})"
        )


def precision_tests(study: Study, outcomes: Sequence[Outcome], store: Store) -> list[PrecisionTest]:
    """A test of each cell that the paper prints and that has runs in both precisions."""
    _, paper = protocol.precision_settings(study)
    if not paper:
        return []
    return [test for outcome in outcomes for test in _of_row(study, outcome, store, paper)]


def precision_notes(study: Study, outcomes: Sequence[Outcome], store: Store) -> list[str]:
    """The tests in words; [] for a study in the paper's precision."""
    own, paper = protocol.precision_settings(study)
    if not own:
        return []
    names = f"{protocol.in_words(own)} less {protocol.in_words(paper)}"
    tests = precision_tests(study, outcomes, store)
    if not tests:
        return [f"{names}: not tested, no point has runs with the same seeds in both."]
    return [f"{names}, {test}." for test in tests]


def _of_row(
    study: Study, outcome: Outcome, store: Store, paper: protocol.Settings
) -> Iterator[PrecisionTest]:
    pairs = [(trial, record) for trial, record in outcome.repeats if record is not None]
    if not outcome.repeats and outcome.chosen is not None and outcome.chosen.record is not None:
        pairs = [(outcome.chosen.trial, outcome.chosen.record)]
    both = [(record, store.record(_in(trial, paper))) for trial, record in pairs]
    ours = {i: own for i, (own, other) in enumerate(both) if other is not None}
    theirs = {i: other for i, (_, other) in enumerate(both) if other is not None}
    for column in study.columns if ours else ():
        if column == STATE or column not in outcome.row.paper:
            continue
        metric = metric_of(study.task["name"], column)
        comparison = compare(_scores(ours, column), _scores(theirs, column))
        tolerance = metric.tolerance.at(outcome.row.paper[column])
        title = study.columns[column]
        yield PrecisionTest(outcome.name, column, title, metric, tolerance, comparison)


def _in(trial: Trial, precision: protocol.Settings) -> Trial:
    return dataclasses.replace(trial, task_settings={**trial.task_settings, **precision})


def _scores(records: dict[int, Record], column: str) -> dict[int, float | None]:
    """The records' values of a column; None where one diverged or failed."""
    values = {i: record.column(column) for i, record in records.items()}
    return {i: None if math.isnan(value) else value for i, value in values.items()}
