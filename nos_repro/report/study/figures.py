"""The papers' two kinds of figures: curves over the epochs, and paths on Rosenbrock's function."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.layout import plain as printable
from nos_repro.report.provenance import origin
from nos_repro.report.study import protocol
from nos_repro.report.study.curve import (
    COLOURS,
    PATHS,
    Curve,
    curve,
    drawn,
    ends,
    figure_metric,
    label,
    metric_words,
    state,
    style,
)

DPI = 150
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (9, 3)))


def draw(study: Study, outcomes: Sequence[Outcome]) -> Figure | None:
    """The figure that the study declares; None where it declares none."""
    if study.figure is None:
        return None
    outcomes = drawn(study, outcomes)
    if study.figure.kind == "rosenbrock":
        return rosenbrock(study, outcomes)
    return curves(study, outcomes, figure_metric(study))


def encode(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The figure's file: the same bytes for the same figure, with no date and no random ids."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "nos_repro", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def curves(study: Study, outcomes: Sequence[Outcome], metric: str) -> Figure:
    """A line a row with its band over the seeds; 002 Figures 6 and 7, 000 Figures 5 and 7.

    The legend's order is that of the lines' ends, and it names the rows that have no line.
    """
    figure = canvas(9.6, 5.4)
    axes = figure.add_subplot()
    lines: list[tuple[float, Any, str]] = []
    absent: list[str] = []
    seen: list[Curve] = []
    for number, outcome in enumerate(outcomes):
        colour, dash = style(number)
        line = curve(outcome.counting, metric)
        if line is None:
            absent.append(label(outcome, None))
            continue
        marker = "." if len(line.epochs) == 1 else None
        (artist,) = axes.plot(
            line.epochs,
            line.mean,
            color=colour,
            linestyle=DASHES[dash],
            linewidth=1.6,
            marker=marker,
        )
        low, high = line.mean - line.std, line.mean + line.std
        axes.fill_between(line.epochs, low, high, color=colour, alpha=0.15, linewidth=0)
        seen.append(line)
        lines.append((float(line.mean[-1]), artist, label(outcome, line)))
    lines.sort(key=lambda entry: -entry[0])
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric_words(study, metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25, linewidth=0.6)
    if seen:
        axes.set_ylim(*ends(seen))
    names = [plain(name) for _, _, name in lines] + [plain(name) for name in absent]
    blank = matplotlib.lines.Line2D([], [], linestyle="none")
    handles = [artist for _, artist, _ in lines] + [blank for _ in absent]
    axes.legend(
        handles, names, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False
    )
    several = any(line.n > 1 for line in seen)
    words = "Mean over the seeds; the band is one standard deviation." if several else "One run."
    return _finished(figure, study, outcomes, words)


# The start is the task's default.
START, OPTIMUM = (-2.0, 2.0), (1.0, 1.0)


def rosenbrock(study: Study, outcomes: Sequence[Outcome]) -> Figure:
    """The paths of the optimizers, a panel each, on the contours; 002 Figure 5, 000 Figure 6."""
    columns = 3 if len(outcomes) > 4 else max(1, len(outcomes))
    rows = -(-len(outcomes) // columns)
    figure = canvas(3.2 * columns, 2.95 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    panels = [axes for line in grid for axes in line]
    start = tuple(study.task.get("start", START))
    for n, (axes, outcome) in enumerate(zip(panels, outcomes, strict=False)):
        _panel(axes, outcome, start, COLOURS[n % len(COLOURS)])
    for axes in panels[len(outcomes) :]:
        axes.set_axis_off()
    return _finished(figure, study, outcomes, PATHS)


def _panel(axes: Axes, outcome: Outcome, start: tuple[float, ...], colour: str) -> None:
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


def canvas(width: float, height: float) -> Figure:
    """A figure of so many inches, with nothing on it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _finished(figure: Figure, study: Study, outcomes: Sequence[Outcome], words: str) -> Figure:
    """Study, source and scale above; below, what is drawn and where it comes from."""
    own = protocol.settings_of(study)
    label = "the paper's protocol" if protocol.is_the_papers(study) else "not the paper's protocol"
    title = f"{study.study} ({study.source}), scale {study.scale}: {protocol.short(own)} ({label})"
    return finished(figure, title, [words, *origin(study, outcomes)])


def finished(figure: Figure, title: str, below: Sequence[str]) -> Figure:
    """The figure with its title and the lines below.

    The layout is settled once: left on, it would move with every file that is made.
    """
    figure.suptitle(plain(title), fontsize=11)
    figure.supxlabel(plain("\n".join(below)), fontsize=6, color="0.35")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def plain(text: str) -> str:
    """``text`` with no sign that matplotlib would read as mathematics, or that an SVG cannot hold;
    a line stays one."""
    return "\n".join(map(printable, text.split("\n"))).replace("$", r"\$")
