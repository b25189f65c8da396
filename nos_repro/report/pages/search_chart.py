"""A search's course: the reward of every sampled rule, and the lines of Figure 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nos_repro.report.pages.charts import Chart, Line, Trace, Variant, band, layout, short, shown
from nos_repro.report.search.course import (
    BASELINE,
    BEST,
    FRESH,
    MEAN,
    QUANTILE,
    STATUSES,
    line_points,
    moving_average,
    moving_quantiles,
    window_of,
)
from nos_repro.report.search.history import History, Reward
from nos_repro.rules.simplest import simplest_text

MANY = 5000
"""An SVG with more dots than these is slow."""


def search_chart(history: History) -> Chart | None:
    """None while no rule has a reward."""
    rewards = history.rewards
    if not rewards:
        return None
    values = np.array([reward.reward for reward in rewards])
    numbers = np.array([reward.sample + 1 for reward in rewards])
    window = window_of(len(rewards))
    ends = line_points(len(rewards))
    x = [int(number) for number in numbers[ends]]
    data: list[Trace] = []
    lines: list[Line] = []
    dots = _thinned(rewards)
    for name, (colour, statuses) in STATUSES.items():
        part = [reward for reward in dots if reward.status in statuses]
        if part:
            lines.append(Line(name, name, colour, "dot"))
            data.append(_dots(history, name, colour, part))
    low, median, high, ninety = moving_quantiles(values, window, ends).T
    data.append(band("middle half", x, short(low), short(high), "rgba(0,114,178,0.16)"))
    lines.append(Line("middle half", "middle half", QUANTILE, "solid"))
    drawn = (
        ("median", median, QUANTILE, "8px,3px", 1.3),
        ("90 %", ninety, QUANTILE, "2px,2px", 1.3),
        (f"mean of the last {window}", moving_average(values, window)[ends], MEAN, "solid", 2.5),
        ("best so far", np.maximum.accumulate(values)[ends], BEST, "solid", 2),
    )
    for name, y, colour, dash, width in drawn:
        lines.append(Line(name, name, colour, dash))
        data.append(_line(name, x, short(y), {"color": colour, "dash": dash, "width": width}))
    fresh = history.fresh
    few, some = window_of(len(fresh)), line_points(len(fresh))
    firsts = [fresh[k].sample + 1 for k in some]
    average = moving_average(np.array([each.reward for each in fresh]), few)[some]
    name = f"of the last {few} fresh rules"
    lines.append(Line(name, name, FRESH, "solid"))
    data.append(_line(name, firsts, short(average), {"color": FRESH, "width": 2}))
    words = (
        "A dot is a draw; point at it to read the rule. What was refused,"
        f" diverged or failed has reward 0. Mean and quantiles are over the last {window}"
        " draws, all rewards counted; a fresh rule is drawn for the first time. One seed per"
        " rule: the best so far is best by luck too."
    )
    if len(dots) < len(rewards):
        words += f" {len(dots):,} of the {len(rewards):,} dots are drawn, every best so far among"
        words += " them."
    healthy = [pair for pair in history.baselines if pair[1].status == "healthy"]
    for named, found in healthy:
        look = {"color": BASELINE, "dash": "6px,3px", "width": 1.2}
        data.append(_line(named.name, [1, int(numbers[-1])], [found.reward] * 2, look, "baselines"))
    if healthy:
        lines.append(Line("baselines", "baselines", BASELINE, "6px,3px"))
    return Chart(
        "course",
        "Reward against the number of sampled rules",
        [Variant([], data, layout("number of sampled optimizers", "reward"))],
        lines,
        words=[words],
    )


def _thinned(rewards: Sequence[Reward]) -> list[Reward]:
    """At most MANY of the rewards, evenly spaced, and besides these every best so far."""
    spacing = math.ceil(len(rewards) / MANY)
    drawn, best = [], -math.inf
    for number, reward in enumerate(rewards):
        if number % spacing == 0 or reward.reward > best:
            drawn.append(reward)
        best = max(best, reward.reward)
    return drawn


def _dots(history: History, name: str, colour: str, part: list[Reward]) -> Trace:
    many = len(history.rewards) >= MANY
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "x": [reward.sample + 1 for reward in part],
        "y": short(reward.reward for reward in part),
        "text": [shown(simplest_text(history.rules[reward.key])) for reward in part],
        "marker": {"color": colour, "size": 4 if many else 6, "opacity": 0.25 if many else 0.5},
        "hovertemplate": "%{text}<br>sample %{x}: %{y:.4f}, %{fullData.name}<extra></extra>",
    }


def _line(
    name: str, x: list[int], y: list[float | None], look: dict[str, Any], group: str = ""
) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": shown(name),
        "legendgroup": group or name,
        "x": x,
        "y": y,
        "line": look,
        "hovertemplate": "<b>%{fullData.name}</b><br>%{x}: %{y:.4f}<extra></extra>",
    }
