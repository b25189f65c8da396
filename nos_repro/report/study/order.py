"""How far a small scale can be believed: whether it orders a table's rows as the paper's numbers
do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from nos_repro.experiments.columns import metric_of
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.study.rows import is_complete

FEWEST = 6
"""An order of fewer rows says nothing."""


def order_notes(study: Study, outcomes: Sequence[Outcome], printed: Sequence[str]) -> Iterator[str]:
    """For each column of which the paper prints numbers: Kendall's tau-b between these and ours,
    over the rows that are complete, with its 95 % interval (bootstrap over the rows)."""
    for column in printed:
        sign = metric_of(study.task["name"], column).sign
        pairs = [
            (sign * number.mean, sign * outcome.row.paper[column])
            for outcome in outcomes
            if is_complete(outcome)
            and column in outcome.row.paper
            and (number := outcome.number(column)) is not None
        ]
        if len(pairs) < FEWEST:
            continue
        found = _kendall(pairs)
        if found is not None:
            value, low, high = found
            yield (
                f"{study.columns[column]}: these {len(pairs)} rows are ordered as the paper's"
                f" numbers with a Kendall's tau of {value:.2f} [{low:.2f}, {high:.2f}] (1: alike,"
                " 0: no relation)."
            )


def _kendall(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float] | None:
    import numpy as np

    from nos_repro.search.table.measures import kendall

    ours, theirs = (np.array(values) for values in zip(*pairs, strict=True))
    found = kendall(ours, theirs)
    return None if math.isnan(found.value) else (found.value, found.low, found.high)
