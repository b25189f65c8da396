"""The order in which a page shows the rows of a study: best first, unfinished ones last."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nos_repro.experiments.columns import STATE, metric_of
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.study.rows import is_complete

FEW, BEST = 8, 6
"""With more than FEW rows, only the BEST are drawn at first, as many as there are colours."""


def main_column(study: Study) -> str:
    """The column that ranks: the first of the test part, or else the first; "" where there is no
    measured one."""
    columns = [column for column in study.columns if column != STATE]
    return next((column for column in columns if "_test" in column), next(iter(columns), ""))


def ranked(study: Study, rows: Sequence[Outcome]) -> list[int]:
    """The numbers of the rows, best first; what is not complete, or has no number, comes last. In a
    race, rows that were stopped follow in the order in which they went out, the last one first."""
    column = main_column(study)
    if not column:
        return list(range(len(rows)))
    sign = metric_of(study.task["name"], column).sign

    def key(number: int) -> tuple[bool, float, int, int]:
        found = rows[number].number(column)
        score = math.inf if found is None else -sign * found.mean
        standing = rows[number].standing
        place = standing.place if standing is not None else None
        stopped = (0, 0) if place is None else (-place.rung, place.rank)
        return not is_complete(rows[number]), math.inf if math.isnan(score) else score, *stopped

    return sorted(range(len(rows)), key=key)
