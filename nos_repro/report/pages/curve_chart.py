"""The rows' curves over the epochs, with a band of one standard deviation, for every metric."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.figures.base import figure_of
from nos_repro.report.pages.charts import (
    Chart,
    Control,
    Line,
    Trace,
    Variant,
    layout,
    lines_of,
    short,
    shown,
    spans_decades,
)
from nos_repro.report.pages.ranking import BEST, FEW, ranked
from nos_repro.report.study.curve import Curve, curve, ends, label, metric_words

PARTS = ("train", "val", "test")
HOVER = "<b>%{fullData.name}</b><br>epoch %{x}: %{y:.5g}%{text}<extra></extra>"


def row_lines(study: Study, outcomes: Sequence[Outcome]) -> list[Line]:
    """The rows' looks in all charts of a study: the best take the first colours, and of many rows
    only they are drawn at first."""
    names = [outcome.name for outcome in outcomes]
    return lines_of(names, ranked(study, outcomes), BEST if len(names) > FEW else None)


def curve_chart(study: Study, outcomes: Sequence[Outcome], lines: Sequence[Line]) -> Chart | None:
    """None while no run has a curve."""
    names = metrics(study, outcomes)
    variants = [_variant(study, metric, outcomes, lines) for metric in names]
    variants = [variant for variant in variants if variant.data]
    if not variants:
        return None
    kept = [variant.keys[0] for variant in variants]
    return Chart(
        "curves",
        "Curves of the rows over the epochs",
        variants,
        list(lines),
        [Control("metric", [(metric, metric_words(study, metric)) for metric in kept])],
        log=True,
        words=[
            "Mean over the runs behind a row's numbers; the band is one sample standard deviation."
            " Runs that diverged or failed are left out."
        ],
    )


def metrics(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    """Whatever was recorded; the figure's metric first, then the task's own, the rate last."""
    records = [record for outcome in outcomes for record in outcome.counting]
    found = {key for record in records for point in record.metrics[-1:] for key in point}
    found |= {key for record in records for point in record.metrics[:1] for key in point}
    figure = figure_of(study)
    first = figure.metric if figure is not None else ""
    own = f"val_{records[0].metric}" if records else ""
    measured = sorted(key for key in found if key.partition("_")[0] in PARTS)
    measured.sort(key=lambda key: (key != first, key != own))
    return measured + [key for key in ("lr",) if key in found]


def _variant(
    study: Study, metric: str, outcomes: Sequence[Outcome], lines: Sequence[Line]
) -> Variant:
    found = [(o, line, curve(o.counting, metric)) for o, line in zip(outcomes, lines, strict=True)]
    seen = [(outcome, line, each) for outcome, line, each in found if each is not None]
    data = [_line(each, outcome, line) for outcome, line, each in seen]
    y = {"type": "linear"}
    if spans_decades(value for _, _, each in seen for value in each.mean.tolist()):
        y = {"type": "log", "exponentformat": "power"}
    elif in_sight := [each for _, line, each in seen if not line.hidden]:
        between = ends(in_sight)
        if all(map(math.isfinite, between)):
            y["range"] = list(between)  # type: ignore[assignment]
    return Variant([metric], data, layout("epoch", metric_words(study, metric), yaxis=y))


def _line(each: Curve, outcome: Outcome, line: Line) -> Trace:
    """Where there is a spread it is `customdata`, and the page's script draws the band, in the
    colour of `meta`: its corners are not written."""
    words = f" ± %{{customdata:.3g}}, n = {each.n}" if each.n > 1 else f", n = {each.n}"
    std = each.std.tolist()
    spread = {"customdata": short(std), "meta": _faint(line.colour)} if each.n > 1 else {}
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(each.epochs) == 1 else "lines",
        "name": shown(label(outcome, each)),
        "legendgroup": line.key,
        "x": each.epochs.tolist(),
        "y": short(each.mean.tolist()),
        **spread,
        "line": {"color": line.colour, "dash": line.dash, "width": 2},
        "hovertemplate": HOVER.replace("%{text}", words),
    }


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
