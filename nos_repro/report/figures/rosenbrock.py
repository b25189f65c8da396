"""Paths on Rosenbrock's function: 002 Figure 5, 000 Figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nos_repro.experiments.selection import Outcome
from nos_repro.report.figures.base import FIGURES, StudyFigure
from nos_repro.report.study.curve import COLOURS
from nos_repro.report.study.rows import state

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The start is the task's default.
START, OPTIMUM = (-2.0, 2.0), (1.0, 1.0)


@FIGURES.register("rosenbrock")
class Paths(StudyFigure):
    """The paths of the optimizers on the contours, one panel each."""

    heading = "Paths"

    @property
    def metric(self) -> str:
        return "val_loss"

    def size(self, rows: Sequence[Outcome]) -> tuple[float, float]:
        columns, lines = _grid(len(rows))
        return 3.2 * columns, 2.95 * lines + 0.9

    def draw(self, canvas: Figure, rows: Sequence[Outcome]) -> None:
        columns, lines = _grid(len(rows))
        grid = canvas.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        panels = [axes for line in grid for axes in line]
        start = tuple(self.study.task.get("start", START))
        for n, (axes, row) in enumerate(zip(panels, rows, strict=False)):
            _panel(axes, row, start, COLOURS[n % len(COLOURS)])
        for axes in panels[len(rows) :]:
            axes.set_axis_off()

    def caption(self, rows: Sequence[Outcome]) -> str:
        return "Paths through the recorded points, circle to cross; the black dot is the optimum."


def _grid(panels: int) -> tuple[int, int]:
    """How many columns and lines the panels fill."""
    columns = 3 if panels > 4 else max(1, panels)
    return columns, max(1, -(-panels // columns))


def _panel(axes: Axes, outcome: Outcome, start: tuple[float, ...], colour: str) -> None:
    import numpy as np

    from nos_repro.report.drawing import plain

    x, y = np.meshgrid(np.linspace(-2, 2, 121), np.linspace(-1, 3, 121))
    loss = (1 - x) ** 2 + 100 * (y - x**2) ** 2
    levels = np.logspace(-1, 3.5, 10)
    axes.contour(x, y, loss, levels=levels, colors="0.75", linewidths=0.6)
    record = next(iter(outcome.counting), None)
    lines = [outcome.name]
    if record is not None and record.status == "finished":
        path = [(p["val_x"], p["val_y"]) for p in record.thinned().metrics]
        xs, ys = zip(start, *path, strict=True)
        axes.plot(xs, ys, color=colour, linewidth=1.3, marker=".", markersize=2.5)
        axes.plot(*path[-1], marker="x", color=colour, markersize=7, markeredgewidth=1.8)
        lines.append(f"final loss {record.column('final_val'):.2g}")
    else:
        lines.append(state(outcome))
    axes.plot(*start, marker="o", markerfacecolor="none", color=colour, markersize=6, clip_on=False)
    axes.plot(*OPTIMUM, marker="o", color="black", markersize=5, zorder=5)
    axes.set(xlim=(-2, 2), ylim=(-1, 3), aspect="equal")
    chosen = f", {outcome.chosen.point}" if outcome.chosen is not None else ""
    axes.set_title(plain(f"{lines[0]}\n{lines[1]}{chosen}"), fontsize=9)
