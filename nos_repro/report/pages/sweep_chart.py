"""A row's sweep: the metric that chooses against the rate, and the points without a score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, Scored
from nos_repro.report.pages.charts import (
    Chart,
    Line,
    Trace,
    Variant,
    layout,
    short,
    shown,
    spans_decades,
)
from nos_repro.report.study.why import NOT_RUN, value_of
from nos_repro.tasks.registry import find_metric

HOVER = "<b>%{fullData.name}</b><br>%{text}<extra></extra>"
# fmt: off
LOST = {
    "failed":   "square-open",
    "diverged": "x",
    NOT_RUN:    "circle-open",
}
"""What is drawn at the bottom, from the lowest up."""
# fmt: on


def sweep_chart(study: Study, outcomes: Sequence[Outcome], lines: Sequence[Line]) -> Chart | None:
    """None where no point of any sweep has a record or a score, or nothing was swept."""
    if all(s.record is None and not math.isfinite(s.score) for o in outcomes for s in o.sweep):
        return None
    data: list[Trace] = []
    for outcome, line in zip(outcomes, lines, strict=True):
        data += _scores(outcome, line)
        data += _lost(outcome, line, len(outcomes))
    by = study.selection.by.replace("_", " ").replace("val", "validation")
    metric = find_metric(study.task["name"]).words
    lost = any(trace.get("yaxis") == "y2" for trace in data)
    heights = [y for trace in data if trace.get("yaxis") != "y2" for y in trace["y"]]
    log = spans_decades(heights)
    shape = layout(
        "learning rate",
        f"{by} ({metric})",
        xaxis={"type": "log", "exponentformat": "power", "dtick": 1,
               "anchor": "y2" if lost else "y"},
        yaxis={"domain": [0.24 if lost else 0, 1], "type": "log" if log else "linear",
               "exponentformat": "power"},
        **({"yaxis2": _strip()} if lost else {}),
    )  # fmt: skip
    return Chart(
        "sweeps",
        "Sweeps over the learning rate",
        [Variant([], data, shape)],
        list(lines),
        log=True,
        words=[
            "A star is the point that was chosen. Points of a row that differ in another swept"
            " setting are lines of their own. Below: points that diverged, failed, or have not"
            " ended; they are moved apart a little where rows share a rate."
        ],
    )


def _strip() -> dict[str, object]:
    return {
        "domain": [0, 0.18],
        "type": "category",
        "categoryorder": "array",
        "categoryarray": list(LOST),
        "range": [-0.6, len(LOST) - 0.4],
        "fixedrange": True,
        "automargin": True,
    }


def _scores(outcome: Outcome, line: Line) -> Iterator[Trace]:
    """A line for each combination of what else was swept."""
    known = [scored for scored in outcome.sweep if math.isfinite(scored.score)]
    known.sort(key=lambda scored: (_others(scored), scored.point.lr))
    for others, group in groupby(known, key=_others):
        part = list(group)
        trace: Trace = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": shown(outcome.name),
            "legendgroup": line.key,
            "x": short(scored.point.lr for scored in part),
            "y": short(value_of(scored) for scored in part),
            "line": {"color": line.colour, "dash": line.dash, "width": 1.5},
            "marker": {"size": 7, "color": line.colour},
            "hovertemplate": f"<b>%{{fullData.name}}</b><br>lr=%{{x}} {shown(others)}: %{{y:.6g}}"
            "%{text}<extra></extra>",
            "text": "",
        }
        if any(chosen := [outcome.is_chosen(scored) for scored in part]):
            trace["text"] = [", chosen" if each else "" for each in chosen]
            trace["marker"] |= {
                "symbol": ["star" if each else "circle" for each in chosen],
                "size": [15 if each else 7 for each in chosen],
            }
        yield trace


def _lost(outcome: Outcome, line: Line, rows: int) -> Iterator[Trace]:
    """Points without a score; rows are moved apart, since they try the same rates."""
    part = [scored for scored in outcome.sweep if not math.isfinite(scored.score)]
    if not part:
        return
    apart = 1.25 ** ((int(line.key) + 0.5) / rows - 0.5)
    kinds = [_kind(scored) for scored in part]
    yield {
        "type": "scatter",
        "mode": "markers",
        "name": shown(outcome.name),
        "legendgroup": line.key,
        "x": short(scored.point.lr * apart for scored in part),
        "y": kinds,
        "yaxis": "y2",
        "text": [f"{shown(str(s.point))}: {k}" for s, k in zip(part, kinds, strict=True)],
        "marker": {"symbol": [LOST[kind] for kind in kinds], "size": 9, "color": line.colour},
        "hovertemplate": HOVER,
    }


def _kind(scored: Scored) -> str:
    if scored.record is None:
        return NOT_RUN
    return scored.record.status if scored.record.status in LOST else "failed"


def _others(scored: Scored) -> str:
    return " ".join(f"{key}={value}" for key, value in scored.point.values if key != "lr")
