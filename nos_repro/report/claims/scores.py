"""The scores of a row that a claim compares: one per run, by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.statistics import Scores

PEAK = 5
"""002 sec. 6.4 averages 5 points near the peak."""


def unfinished(outcome: Outcome) -> bool:
    """Whether anything that the row's number needs has not ended, or has failed."""
    broken = any(record.status == "failed" for record in outcome.counting)
    begun = any(scored.record is not None for scored in outcome.sweep)
    return bool(outcome.missing) or outcome.growing or broken or not begun


def by_seed(study: Study, outcome: Outcome, score: Callable[[Record], float]) -> Scores:
    """A score per seed, from the runs that make the row's number; None for one that diverged."""
    if outcome.chosen is None:
        first = study.selection.seed + outcome.row.seed
        asked = study.selection.repeats
        return dict.fromkeys(range(first + 1, first + 1 + asked) if asked else [first])
    scores: dict[int, float | None] = {}
    for record in outcome.counting:
        value = score(record) if record.status == "finished" else math.nan
        scores[int(record.trial["seed"])] = value if not math.isnan(value) else None
    return scores


def speeds(study: Study, one: Outcome, other: Outcome) -> tuple[Scores, Scores]:
    """Minus the share of the training after which each run first reaches the best validation
    value that both runs of a seed reach."""
    mine, its = ({int(r.trial["seed"]): r for r in o.counting} for o in (one, other))
    ours: dict[int, float | None] = {}
    theirs: dict[int, float | None] = {}
    for seed in mine.keys() & its.keys():
        pair = (curve(mine[seed]), curve(its[seed]))
        finished = all(r.status == "finished" and c for r, c in zip(
            (mine[seed], its[seed]), pair, strict=True))  # fmt: skip
        if not finished:
            ours[seed] = None if mine[seed].status != "finished" else 0.0
            theirs[seed] = None if its[seed].status != "finished" else 0.0
            continue
        target = min(max(value for _, value in points) for points in pair)
        reached = [next(e for e, value in points if value >= target) for points in pair]
        ours[seed], theirs[seed] = (-epoch / study.training.epochs for epoch in reached)
    return ours, theirs


def curve(record: Record) -> list[tuple[float, float]]:
    """The validation metric by epoch; larger is better."""
    key = f"val_{record.metric}"
    return [(p["epoch"], record.sign * p[key]) for p in record.metrics if key in p]


def near_peak(record: Record, column: str) -> float:
    """The mean of the PEAK measurements around the best one of the column's metric on its part of
    the data; NaN if it was never measured. Larger is better,
    as the metric is for all that has a peak (BLEU)."""
    key = column.split("_", 1)[1]
    values = [point[key] for point in record.metrics if key in point]
    if not values:
        return math.nan
    at = values.index(max(values))
    first = max(0, min(at - PEAK // 2, len(values) - PEAK))
    return statistics.fmean(values[first : first + PEAK])
