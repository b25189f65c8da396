"""The figure of a board: the scores with their intervals, and the performance profiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nos_repro.report.board.standing import BoardStanding
from nos_repro.report.board.table import origin_lines
from nos_repro.report.study.curve import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def board_figure(found: BoardStanding) -> Figure | None:
    """None while no row has a score."""
    from nos_repro.report.drawing import DASHES, canvas, finished

    rows = [row for row in found.rows if row.score is not None]
    if not rows:
        return None
    figure = canvas(10.5, max(3.6, 1.2 + 0.32 * len(rows)))
    left, right = figure.subplots(1, 2)
    last = 1.1 * last_tau(found)
    for number, row in enumerate(rows):
        colour, dash = style(number)
        assert row.score is not None
        value, low, high = row.score
        if not math.isnan(low):
            left.plot([low, high], [number, number], color=colour, linewidth=2)
        left.plot([value], [number], "o", color=colour, markersize=5)
        if row.profile is not None:
            taus, shares = row.profile.taus, row.profile.shares
            right.step([*taus, last], [*shares, shares[-1]], where="post", color=colour,
                       linestyle=DASHES[dash], linewidth=1.6, label=row.name)  # fmt: skip
    left.axvline(1.0, color="0.6", linewidth=0.8, linestyle=":")
    left.set(yticks=range(len(rows)), yticklabels=[row.name for row in rows])
    left.set_xlabel(f"score: speed against {found.reference}")
    left.invert_yaxis()
    right.set(xscale="log", xlim=(1, last), ylim=(-0.02, 1.04))
    right.set(xlabel="within this factor of the fastest row's time", ylabel="share of tasks")
    right.legend(fontsize=6, frameon=False, loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.25, linewidth=0.6)
    title = f"The board {found.lead}, scale {found.scale}"
    return finished(figure, title, small_lines(found))


def small_lines(found: BoardStanding) -> list[str]:
    """What stands below the figure."""
    tasks = ", ".join(task.name for task in found.counted)
    words = (
        f"Time to what {found.reference} reaches at {found.share:.0%} of its training; tasks:"
        f" {tasks}. 95 % intervals from paired seeds."
    )
    return [words, *origin_lines(found)]


def last_tau(found: BoardStanding) -> float:
    """The largest factor at which a profile rises."""
    taus = (row.profile.taus[-1] for row in found.rows if row.profile is not None)
    return max(taus, default=1.0) * 1.05
