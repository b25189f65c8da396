"""000 Figure 4: the controller's reward against the number of sampled optimizers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nos_repro.report.drawing import canvas, finished, plain
from nos_repro.report.search.course import (
    BASELINE,
    BEST,
    FRESH,
    MEAN,
    QUANTILE,
    STATUSES,
    Floats,
    Ints,
    line_points,
    moving_average,
    moving_quantiles,
    window_of,
)
from nos_repro.report.search.history import History, Reward
from nos_repro.report.search.protocol import origin_lines, short_words
from nos_repro.report.words import headline
from nos_repro.search.child import Evaluation

VECTOR_DOTS = 5000
"""More dots than these become an image in the SVG, which would grow by 100 bytes per dot."""
BELOW = 0.055
"""How far below 0 the dots of reward 0 are spread, as a share of the height."""
GAP = 0.034
"""Least distance of two baselines' names, as a share of the height."""


def figure4(history: History) -> Figure | None:
    """The figure; None while no rule has a reward."""
    rewards = history.rewards
    if not rewards:
        return None
    figure = canvas(10.2, 6.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    values = np.array([reward.reward for reward in rewards])
    numbers = np.array([reward.sample + 1 for reward in rewards])
    window = window_of(len(rewards))
    ends = line_points(len(rewards))
    baselines = [pair for pair in history.baselines if pair[1].status == "healthy"]
    top = 1.06 * max([*values, *(found.reward for _, found in baselines), 1e-3])
    upper.set_ylim(-1.3 * BELOW * top, top)

    _dots(upper, rewards, top)
    _lines(upper, numbers, values, window, ends)
    _fresh(upper, history.fresh)
    _baselines(upper, [(named.name, found) for named, found in baselines], top)
    _shares(lower, rewards, numbers, window, ends)
    upper.set_ylabel("reward")
    upper.grid(alpha=0.25, linewidth=0.6)
    legend = upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, fontsize=8,
                          frameon=False, columnspacing=1.6, handlelength=1.8)  # fmt: skip
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):  # the dots, which are faint and small where drawn
            handle.set(alpha=0.9, sizes=[16])
    lower.set_xlabel("number of sampled optimizers")
    lower.set_xlim(0, max(numbers) + 1)
    lower.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
    lower.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    asked = history.asked
    title = headline(asked.search, asked.source, asked.scale, short_words(history.settings))
    words = (
        f"A dot is a draw (reward 0: below the axis). Mean, quantiles and shares are over the last"
        f" {window} draws, all rewards counted; a fresh rule is drawn for the first time. One seed"
        " per rule: the best so far is best by luck too."
    )
    return finished(figure, title, [words, *origin_lines(history)])


def _dots(axes: Axes, rewards: Sequence[Reward], top: float) -> None:
    """Dots of reward 0 are spread below 0, by the golden ratio of their numbers."""
    many = len(rewards) > VECTOR_DOTS
    size, alpha = (2.0, 0.2) if many else (9.0, 0.5)
    axes.axhline(0, color="0.6", linewidth=0.6)
    for name, (colour, statuses) in STATUSES.items():
        part = [reward for reward in rewards if reward.status in statuses]
        if not part:
            continue
        heights = [
            each.reward or -(0.15 + 0.85 * (each.sample * 0.6180339887 % 1)) * BELOW * top
            for each in part
        ]
        axes.scatter([each.sample + 1 for each in part], heights, s=size, color=colour, alpha=alpha,
                     linewidths=0, label=name, rasterized=many)  # fmt: skip


def _lines(axes: Axes, numbers: Ints, values: Floats, window: int, ends: Ints) -> None:
    """Best so far, moving average, and the band of the quantiles."""
    best = np.maximum.accumulate(values)
    low, median, high, ninety = moving_quantiles(values, window, ends).T
    x = numbers[ends]
    axes.fill_between(x, low, high, color=QUANTILE, alpha=0.16, linewidth=0, label="25 to 75 %")
    axes.plot(x, median, color=QUANTILE, linewidth=1.0, linestyle=(0, (4, 1.5)), label="median")
    axes.plot(x, ninety, color=QUANTILE, linewidth=1.0, linestyle=(0, (1, 1)), label="90 %")
    average = moving_average(values, window)[ends]
    axes.plot(x, average, color=MEAN, linewidth=2.0, label=f"mean of the last {window}")
    steps = np.unique([0, *(np.flatnonzero(np.diff(best)) + 1), len(best) - 1])
    axes.plot(numbers[steps], best[steps], color=BEST, linewidth=1.6, drawstyle="steps-post",
              label="best so far")  # fmt: skip


def _fresh(axes: Axes, fresh: Sequence[Reward]) -> None:
    """The moving average of fresh rules alone: that of all draws rises by repeating one too."""
    window, ends = window_of(len(fresh)), line_points(len(fresh))
    average = moving_average(np.array([each.reward for each in fresh]), window)[ends]
    numbers = np.array([each.sample + 1 for each in fresh])[ends]
    axes.plot(
        numbers, average, color=FRESH, linewidth=1.6, label=f"of the last {window} fresh rules"
    )


def _baselines(axes: Axes, baselines: Sequence[tuple[str, Evaluation]], top: float) -> None:
    """One line per baseline with its name beside it, the names apart from each other."""
    span = top * (1 + 1.3 * BELOW)
    ordered = sorted(baselines, key=lambda pair: pair[1].reward)
    heights = spread([found.reward for _, found in ordered], GAP * span, top)
    for (name, found), height in zip(ordered, heights, strict=True):
        axes.axhline(found.reward, color=BASELINE, linewidth=0.9, linestyle=(0, (6, 2)), alpha=0.8)
        axes.annotate(
            plain(f"{name} {found.reward:.3f}"),
            xy=(1, found.reward),
            xytext=(1.025, height),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            fontsize=8,
            color=BASELINE,
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": BASELINE, "linewidth": 0.6, "shrinkA": 0,
                        "shrinkB": 0, "relpos": (0, 0.5)},
            annotation_clip=False,
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """Ascending ``heights`` moved apart to ``gap`` or more, as little as needed and below ``top``.

    Neighbours that are too close form a group around their mean; groups that touch join.
    """
    groups: list[tuple[float, int]] = []  # the middle of a group, and how many are in it
    for height in heights:
        middle, count = min(height, top), 1
        while groups and groups[-1][0] + gap * (groups[-1][1] + count) / 2 > middle:
            other, others = groups.pop()
            middle = (middle * count + other * others) / (count + others)
            count += others
            middle = min(middle, top - gap * (count - 1) / 2)
        groups.append((middle, count))
    return [middle + gap * (n - (count - 1) / 2) for middle, count in groups for n in range(count)]


def _shares(
    axes: Axes,
    rewards: Sequence[Reward],
    numbers: Ints,
    window: int,
    ends: Ints,
) -> None:
    """What became of the rules, as shares of the last ``window``."""
    parts, colours = [], []
    for colour, statuses in STATUSES.values():
        of_it = np.array([float(reward.status in statuses) for reward in rewards])
        if of_it.any():
            parts.append(moving_average(of_it, window)[ends])
            colours.append(colour)
    axes.stackplot(numbers[ends], *parts, colors=colours, alpha=0.75, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share")
