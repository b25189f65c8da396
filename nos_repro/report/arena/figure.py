"""The figure of an arena: the best rule so far, and how many runs have found a top rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nos_repro.report.arena.standing import ArenaStanding, RowStanding, judged_at
from nos_repro.report.study.curve import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

POINTS = 60


class Course(NamedTuple):
    """The mean judged reward over the runs at some budgets, with its 95 % band, and the share of
    runs that have found a rule of the narrowest top."""

    children: NDArray[np.int64]
    mean: NDArray[np.float64]
    half: NDArray[np.float64]
    share: NDArray[np.float64]


def course(row: RowStanding) -> Course:
    """A row's curves, up to its budget."""
    most = min(record["run"]["children"] for record in row.records)
    children = np.unique(np.geomspace(1, most, POINTS).astype(int))
    values = np.array([[judged_at(record, n) for n in children] for record in row.records])
    n = len(values)
    spread = values.std(axis=0, ddof=1) if n > 1 else np.zeros(len(children))
    found = np.array(row.needed(-1))
    share = np.array([(found <= budget).mean() for budget in children])
    return Course(children, values.mean(axis=0), 1.96 * spread / np.sqrt(n), share)


def arena_figure(found: ArenaStanding) -> Figure | None:
    """None while nothing has been played."""
    from nos_repro.report.arena.table import origin_lines
    from nos_repro.report.drawing import DASHES, canvas, finished

    if not found.played:
        return None
    arena = found.arena
    figure = canvas(10.5, 4.8)
    left, right = figure.subplots(1, 2)
    lowest = []
    for number, row in enumerate(found.played):
        colour, dash = style(number)
        curve = course(row)
        look = {"color": colour, "linestyle": DASHES[dash], "linewidth": 1.6}
        left.plot(curve.children, curve.mean, label=row.name, **look)
        low, high = curve.mean - curve.half, curve.mean + curve.half
        left.fill_between(curve.children, low, high, color=colour, alpha=0.15, linewidth=0)
        right.plot(curve.children, curve.share, **look)
        lowest.append(np.interp(16, curve.children, curve.mean))
    left.set(
        xscale="log", xlabel="children", ylabel="reward of the best rule so far, by the judges"
    )
    left.set_ylim(bottom=min(lowest))
    right.set(xscale="log", xlabel="children", ylim=(0, 1.02))
    right.set_ylabel(f"share of runs that found a rule of the top {arena.top[-1]:.1%}")
    for axes in (left, right):
        axes.grid(alpha=0.25, linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=min(8, len(found.played)), frameon=False,
                  fontsize=9)  # fmt: skip
    most = max(row.wanted for row in found.played)
    words = (
        f"Means over up to {most} seeds with 95 % bands. A child is a distinct rule that is"
        " trained; a search gets the rewards of one seed of the table, and what it found is judged"
        " by the others."
    )
    title = f"Search algorithms on the table {arena.table}, task {arena.task}"
    return finished(figure, title, [words, *origin_lines(found)])
