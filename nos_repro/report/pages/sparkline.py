"""A small picture of a study or search for the index: lines without axes, as numbers in an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.pages.charts import spans_decades
from nos_repro.report.pages.curve_chart import metrics
from nos_repro.report.pages.ranking import ranked
from nos_repro.report.search.course import MEAN, line_points, moving_average, window_of
from nos_repro.report.search.history import History
from nos_repro.report.study.curve import COLOURS, curve, ends, metric_words

WIDTH, HEIGHT = 240, 72
KEYED, OTHERS = 3, "#8a949e"
"""So many lines, the best, have a colour and a name; the others are grey."""
MOST = 60
"""The most points in a line."""


@dataclass(frozen=True)
class Spark:
    """``lines``: colour and the SVG's points; ``words`` say what is drawn, ``key`` which line is in
    which colour."""

    lines: list[tuple[str, str]]
    words: str
    key: list[tuple[str, str]]
    width: int = WIDTH
    height: int = HEIGHT


def study_spark(study: Study, outcomes: Sequence[Outcome]) -> Spark | None:
    """The figure's metric, or the task's own, over the epochs; None where nothing is drawn."""
    names = [name for name in metrics(study, outcomes) if name != "lr"]
    if not names:
        return None
    order = [outcomes[n] for n in ranked(study, outcomes)]
    found = [(row.name, curve(row.counting, names[0])) for row in order]
    seen = [(name, each) for name, each in found if each is not None]
    if not seen:
        return None
    log = spans_decades(value for _, each in seen for value in each.mean)
    low, high = ends([each for _, each in seen])
    if log:
        values = [math.log10(value) for _, each in seen for value in each.mean]
        low, high = min(values), max(values)
    last = max(float(each.epochs[-1]) for _, each in seen)
    points = [
        _points(
            [epoch / last for epoch in each.epochs],
            [math.log10(value) if log else value for value in each.mean], low, high)
        for _, each in seen
    ]  # fmt: skip
    colours = [*COLOURS[:KEYED], *(OTHERS for _ in seen)][: len(seen)]
    key = [(colour, name) for colour, (name, _) in zip(colours[:KEYED], seen, strict=False)]
    if len(seen) > KEYED:
        key.append((OTHERS, f"{len(seen) - KEYED} more"))
    words = metric_words(study, names[0])
    lines = list(zip(colours, points, strict=True))[::-1]  # the best last, on top of the others
    return Spark(lines, f"{words}{', log scale,' if log else ''} over the epochs", key)


def search_spark(history: History) -> Spark | None:
    """The moving average of the reward."""
    values = np.array([reward.reward for reward in history.rewards])
    if not len(values):
        return None
    places = line_points(len(values))
    mean = moving_average(values, window_of(len(values)))[places]
    points = _points([n / len(values) for n in places], list(mean), 0.0, float(mean.max()) or 1.0)
    words = f"mean reward of the last {window_of(len(values))} rules"
    return Spark([(MEAN, points)], "reward over the samples", [(MEAN, words)])


def _points(x: Sequence[float], y: Sequence[float], low: float, high: float) -> str:
    step = math.ceil(len(x) / MOST)
    kept = sorted({*range(0, len(x), step), len(x) - 1})
    span = (high - low) or 1.0
    return " ".join(
        f"{2 + x[n] * (WIDTH - 4):.1f},{2 + (1 - (y[n] - low) / span) * (HEIGHT - 4):.1f}"
        for n in kept
    )
