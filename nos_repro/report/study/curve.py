"""A row's line in a figure: its values over the epochs, its colour and dashes, its name.

The figures of a report and the charts of a page draw the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.study.rows import how_far, state
from nos_repro.tasks.registry import describe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Okabe and Ito's palette, which the colour-blind can tell apart, without yellow, which does not
# show on white, and without its second blue. Then the next kind of dashes begins.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
DASHES = 6
"""How many kinds of dashes there are."""


@dataclass(frozen=True)
class Curve:
    """A row's line: mean and sample standard deviation over ``n`` runs, one value per epoch."""

    epochs: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    n: int


def style(number: int) -> tuple[str, int]:
    """The colour and the dashes of the ``number``th line of a figure."""
    return COLOURS[number % len(COLOURS)], number // len(COLOURS) % DASHES


def curve(records: Sequence[Record], metric: str) -> Curve | None:
    """The mean of the finished runs' ``metric`` over the epochs that all of them recorded; a run
    that a rung stopped counts as far as it went.

    A committed record keeps some epochs of a long run only, and not every run the same ones.
    Only those are drawn, so that a clone draws the same.
    """
    runs = [
        {point["epoch"]: point[metric] for point in record.thinned().metrics if metric in point}
        for record in records
        if record.status in ("finished", "stopped")
    ]
    shared = sorted(set.intersection(*map(set, runs))) if runs else []
    if not shared:
        return None
    import numpy as np

    values = np.array([[run[epoch] for epoch in shared] for run in runs])
    std = values.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(len(shared))
    return Curve(np.array(shared), values.mean(axis=0), std, len(runs))


def ends(seen: Sequence[Curve]) -> tuple[float, float]:
    """The heights between which the ends can be told apart: the steep beginning is left out, no
    end is cut off."""
    late = [(line, line.epochs >= line.epochs[-1] / 4) for line in seen]
    low = min((line.mean - line.std)[part].min() for line, part in late)
    high = max((line.mean + line.std)[part].max() for line, part in late)
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def label(outcome: Outcome, line: Curve | None) -> str:
    """A row's name in a legend; one without a line says why."""
    if line is None:
        return f"{outcome.name}: {state(outcome)}"
    asked = len(outcome.repeats) or 1
    if outcome.standing is not None:
        return f"{outcome.name}: {how_far(outcome)}"
    return outcome.name if line.n == asked else f"{outcome.name} ({line.n} of {asked} runs)"


def metric_words(study: Study, key: str) -> str:
    """What an axis says about a value of the curves: `test accuracy (%)`."""
    part, _, name = key.partition("_")
    for metric in describe(study.task["name"]).measures:
        if metric.name == name:
            return f"{part} {metric.axis}"
    return key.replace("_", " ")
