"""How far a small scale can be believed: whether it orders a table's rows as the paper's numbers
do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nos_repro.experiments.columns import metric_of
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.study.rows import is_complete

FEWEST = 6
"""An order of fewer rows says nothing."""


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b with its 95 % interval."""

    value: float
    low: float
    high: float


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
        tau = kendall(pairs)
        if tau is not None:
            yield (
                f"{study.columns[column]}: the order of these {len(pairs)} rows and that of the"
                f" paper's numbers have a Kendall's tau of {tau.value:.2f}"
                f" [{tau.low:.2f}, {tau.high:.2f}] (1: the same order, 0: no relation)."
            )


def kendall(pairs: Sequence[tuple[float, float]]) -> Tau | None:
    """Of a row's numbers in two places; None where one of them orders nothing."""
    import numpy as np

    from nos_repro.search.table import measures

    ours, theirs = (np.array(values) for values in zip(*pairs, strict=True))
    found = measures.kendall(ours, theirs)
    return None if math.isnan(found.value) else Tau(found.value, found.low, found.high)
