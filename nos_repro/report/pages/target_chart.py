"""Time to a target, run by run, and the performance profile: what `targets.py` counts, drawn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from nos_repro.experiments.selection import Outcome
from nos_repro.report.layout import Cell, Column, ReportTable
from nos_repro.report.pages.charts import (
    Chart,
    Control,
    Line,
    Trace,
    Variant,
    layout,
    short,
    shown,
)
from nos_repro.report.pages.targets import Profile, Racer, TimedRun, profiles, racers, target_of

# fmt: off
SHARES = {
    0.5:  "half of the rows end at",
    0.25: "the best quarter of the rows ends at",
    0.75: "three quarters of the rows end at",
    1.0:  "every row ends at",
}
UNITS = {"epochs": "epochs", "seconds": "seconds a run"}
# fmt: on
NEVER = "not reached"
LEAST = 2
"""The fewest rows that can be compared."""


def target_parts(
    outcomes: Sequence[Outcome], lines: Sequence[Line], order: Sequence[int]
) -> tuple[Chart, Chart, ReportTable] | None:
    """Time to target, performance profile, and the times as a table, rows in ``order``; None where
    there are fewer than two to compare."""
    rows = sorted(racers(outcomes), key=lambda row: order.index(row.number))
    if sum(row.end is not None for row in rows) < LEAST:
        return None
    first = next(record for outcome in outcomes for record in outcome.counting)
    what = f"validation {first.metric.replace('_', ' ')}"
    goals = {share: target_of(rows, share) for share in SHARES}
    words = {share: f"what {SHARES[share]}: {first.sign * goals[share]:.4g}" for share in SHARES}
    own = {line.key: line for line in lines}
    kept = [own[str(row.number)] for row in rows]
    times = {unit: _times(rows, list(goals.values()), unit) for unit in UNITS}
    variants = [
        Variant([str(share), unit], *_dots([row[n] for row in times[unit]], kept, unit))
        for n, share in enumerate(SHARES)
        for unit in UNITS
    ]
    controls = [
        Control("target", [(str(share), words[share]) for share in SHARES]),
        Control("time in", list(UNITS.items())),
    ]
    absent = [outcomes[n].name for n in range(len(outcomes)) if n not in {r.number for r in rows}]
    left = [f"Not complete, so not timed: {'; '.join(absent)}."] if absent else []
    chart = Chart(
        "targets",
        "Time to reach a target",
        variants,
        kept,
        controls,
        words=[
            f"A target is a {what} that some row ends at (the mean over its finished runs after the"
            " last epoch). The time of a run is its first evaluation on record that is as good."
            " A dot is a run, the bar the median over a row's runs, at the right edge where half of"
            " them or more never arrive. Seconds are a run's own, spread evenly over its epochs;"
            " other work on the machine is in them.",
            *left,
        ],
    )
    return chart, _profile_chart(rows, kept, left), _table(times["epochs"], kept, words)


def _times(rows: Sequence[Racer], goals: Sequence[float], unit: str) -> list[list[list[float]]]:
    """For each row, for each goal: the times of the row's runs."""
    time = TimedRun.seconds if unit == "seconds" else TimedRun.time
    return [[[time(run, goal) for run in row.runs] for goal in goals] for row in rows]


def _dots(
    found: Sequence[list[float]], lines: Sequence[Line], unit: str
) -> tuple[list[Trace], dict[str, object]]:
    latest = max((t for times in found for t in times if math.isfinite(t)), default=1.0)
    edge = latest * 1.15
    data = []
    for line, times in zip(lines, found, strict=True):
        median = statistics.median(times)
        spots = [(t, "circle") if math.isfinite(t) else (edge, "x-thin-open") for t in times]
        spots.append((median if math.isfinite(median) else edge, "line-ns-open"))
        said = [f"run {n}: {_said(t)}" for n, t in enumerate(times, 1)]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": shown(line.name),
                "legendgroup": line.key,
                "x": short(x for x, _ in spots),
                "y": [f"row {line.key}"] * len(spots),
                "text": [*said, f"median: {_said(median)}"],
                "marker": {
                    "symbol": [symbol for _, symbol in spots],
                    "size": [9] * len(times) + [22],
                    "color": line.colour,
                    "opacity": 0.85,
                    "line": {"width": 2.5, "color": line.colour},
                },
                "hovertemplate": "<b>%{fullData.name}</b><br>%{text}<extra></extra>",
            }
        )
    shape = layout(
        f"{unit} to the target",
        "",
        xaxis={"range": [0, edge * 1.05], "zeroline": False},
        yaxis={
            "type": "category",
            "tickvals": [f"row {line.key}" for line in lines],
            "ticktext": [shown(_clipped(line.name)) for line in lines],
            "autorange": "reversed",
        },
        meta={"row_height": 26},
        shapes=[{"type": "line", "x0": edge, "x1": edge, "yref": "paper", "y0": 0, "y1": 1,
                 "line": {"width": 1, "dash": "dot", "color": "#888888"}}],
        annotations=[{"x": edge, "yref": "paper", "y": 1, "yanchor": "bottom", "xanchor": "right",
                      "showarrow": False, "text": NEVER}],
        margin={"l": 68, "r": 14, "t": 28, "b": 64},
    )  # fmt: skip
    return data, shape


def _said(time: float) -> str:
    return f"{time:.4g}" if math.isfinite(time) else NEVER


def _clipped(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


def _profile_chart(rows: Sequence[Racer], lines: Sequence[Line], left: list[str]) -> Chart:
    variants, counted = [], None
    for unit in UNITS:
        counted = profiles(rows, seconds=unit == "seconds")
        last = max((tau for each in counted.rows for tau in each.taus), default=1.0) * 1.1
        data = [step(each, line, last) for each, line in zip(counted.rows, lines, strict=True)]
        x = {"type": "log", "range": [0, math.log10(last)], "exponentformat": "none"}
        y = {"range": [-0.02, 1.04], "tickformat": ".0%"}
        axes = f"within this factor of the fastest row's {unit}", "share of problems"
        variants.append(Variant([unit], data, layout(*axes, xaxis=x, yaxis=y)))
    assert counted is not None
    unsolved = f" {counted.unsolved} more no row solves; they are left out." * (
        counted.unsolved > 0
    )
    return Chart(
        "profile",
        "Performance profile",
        variants,
        list(lines),
        [Control("time in", list(UNITS.items()))],
        words=[
            f"A problem is a target (each value that a row ends at) and the number of a run:"
            f" {counted.problems} problems.{unsolved} A row's line says in which share of them it"
            " arrives within a factor of the fastest row's time: at the left how often it is the"
            " fastest, at the right how often it arrives at all. Evaluations once an epoch make the"
            f" times coarse, and one problem is {100 / max(1, counted.problems):.2g} %: smaller"
            " gaps mean nothing. (Dolan and Moré 2002. Profiles compare with the fastest row:"
            " without some rows, others may change their order, Gould and Scott 2016.)",
            *left,
        ],
    )


def step(each: Profile, line: Line, last: float) -> Trace:
    """A row's profile up to the factor ``last``."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": shown(line.name),
        "legendgroup": line.key,
        "x": short([*each.taus, last]),
        "y": short([*each.shares, each.shares[-1]]),
        "line": {"shape": "hv", "color": line.colour, "dash": line.dash, "width": 2},
        "hovertemplate": "<b>%{fullData.name}</b><br>within %{x:.3g} times: %{y:.0%}"
        "<extra></extra>",
    }


def _table(
    found: Sequence[list[list[float]]], lines: Sequence[Line], words: dict[float, str]
) -> ReportTable:
    """Median epochs to each target, and how many runs arrive."""
    columns = [Column("row"), *(Column(words[share]) for share in SHARES)]
    body = []
    for row, line in zip(found, lines, strict=True):
        cells = [Cell(line.name)]
        for times in row:
            arrived = sum(map(math.isfinite, times))
            cells.append(
                Cell(f"{_said(statistics.median(times))} ({arrived} of {len(times)} runs)")
            )
        body.append(cells)
    return ReportTable(["Median epochs to each target"], columns, body)
