"""Curves of a metric over the epochs: 002 Figures 6 and 7, 000 Figures 5 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nos_repro.errors import ConfigError, unknown
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.figures.base import FIGURES, FigureSettings, StudyFigure
from nos_repro.report.study.curve import curve, ends, label, metric_words, style
from nos_repro.tasks.registry import describe, find_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class CurvesSettings(FigureSettings):
    """The section of curves."""

    metric: str = ""
    """What is drawn, such as `test_accuracy` (default: the task's first metric on test data)."""


@FIGURES.register("curves")
class Curves(StudyFigure):
    """One line per row, with its band over the seeds.

    The legend's order is that of the lines' ends, and it names the rows that have no line.
    """

    Settings = CurvesSettings
    settings: CurvesSettings

    def __init__(self, study: Study, settings: CurvesSettings) -> None:
        super().__init__(study, settings)
        part, _, name = settings.metric.partition("_")
        names = ["loss", *(metric.name for metric in describe(study.task["name"]).measures)]
        if settings.metric and (part not in PARTS or name not in names):
            choice = [f"{part}_{name}" for part in PARTS for name in names]
            raise ConfigError(unknown("figure.metric", settings.metric, choice))

    @property
    def metric(self) -> str:
        return self.settings.metric or f"test_{find_metric(self.study.task['name']).name}"

    def draw(self, canvas: Figure, rows: Sequence[Outcome]) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        from nos_repro.report.drawing import DASHES, plain

        axes = canvas.add_subplot()
        artists: list[tuple[float, Any, str]] = []
        seen, absent = [], []
        for number, row in enumerate(rows):
            colour, dash = style(number)
            line = curve(row.counting, self.metric)
            if line is None:
                absent.append(label(row, None))
                continue
            (artist,) = axes.plot(
                line.epochs,
                line.mean,
                color=colour,
                linestyle=DASHES[dash],
                linewidth=1.6,
                marker="." if len(line.epochs) == 1 else None,
            )
            low, high = line.mean - line.std, line.mean + line.std
            axes.fill_between(line.epochs, low, high, color=colour, alpha=0.15, linewidth=0)
            seen.append(line)
            artists.append((float(line.mean[-1]), artist, label(row, line)))
        artists.sort(key=lambda entry: -entry[0])
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric_words(self.study, self.metric))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25, linewidth=0.6)
        if seen:
            axes.set_ylim(*ends(seen))
        blank = Line2D([], [], linestyle="none")
        axes.legend(
            [artist for _, artist, _ in artists] + [blank for _ in absent],
            [plain(name) for name in [*(name for _, _, name in artists), *absent]],
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            fontsize=8,
            frameon=False,
        )

    def caption(self, rows: Sequence[Outcome]) -> str:
        found = [curve(row.counting, self.metric) for row in rows]
        if any(line is not None and line.n > 1 for line in found):
            return "Mean over the seeds; the band is one standard deviation."
        return "One run."

    def texts(self, rows: Sequence[Outcome]) -> list[str]:
        words = [label(row, curve(row.counting, self.metric)) for row in rows]
        return [metric_words(self.study, self.metric), *words]
