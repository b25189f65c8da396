"""What a dashboard shows of a study or a search: views, each with a filter and sections of panels.

A view is a saved workspace and a part of the report. W&B filters a workspace as a whole, and a
sweep's trials must not blur the curves of the trials that make the numbers. So a study that repeats
its chosen points has two views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nos_repro.experiments.schema import Study
from nos_repro.search.settings import Search
from nos_repro.tracking.connection import import_wandb
from nos_repro.tracking.metrics import (
    BEST_RULE,
    CHILDREN,
    COUNTED,
    EPOCH,
    GLOBAL_STEP,
    LOSS,
    REPEAT,
    SAMPLES,
    STATUS,
    columns,
    curve_metrics,
    deciding_phase,
    first_phase,
    group_of,
)

import_wandb()  # first, to turn off its error reports: wandb-workspaces imports it too

wr: Any = import_module("wandb_workspaces.reports.v2")
ws: Any = import_module("wandb_workspaces.workspaces")
expr: Any = import_module("wandb_workspaces.expr")


@dataclass(frozen=True)
class WorkspaceView:
    """What is shown of the runs that pass ``filters``, in named sections of panels."""

    title: str
    says: str
    filters: Any
    columns: list[str]
    """Columns of W&B's table of runs, after a run's name."""
    sections: dict[str, list[Any]]


def study_views(study: Study) -> list[WorkspaceView]:
    """Views of the trials that make the numbers and, if it is a separate phase, of the sweep that
    chose their rates."""
    numbers = {
        "Curves by row": list(_curves(study)),
        "Best and final": list(_bars(study)),
    }
    sweep = {"Learning-rate sensitivity": _sensitivity(study)}
    compare = {"Runs compared": [wr.RunComparer(diff_only="split")]}
    phase, first = deciding_phase(study), first_phase(study)
    if phase != REPEAT:
        says = f"Every point of the grid, trained once ({phase}); bands: minimum to maximum."
        return [_view(study, "", phase, says, {**numbers, **sweep, **compare})]
    repeats = "The chosen point of each row over fresh seeds; bands: one standard deviation."
    swept = "Every point of the grid, trained once to choose a row's rate."
    return [
        _view(study, "numbers", phase, repeats, {**numbers, **compare}),
        _view(study, first, first, swept, {**sweep, **compare}),
    ]


def _view(
    study: Study, name: str, phase: str, says: str, sections: dict[str, list[Any]]
) -> WorkspaceView:
    group = group_of(study.study, study.scale)
    shown = expr.And(
        expr.Metric("Group") == group,
        expr.Metric("JobType") == phase,
        expr.Summary(STATUS).isin(["training", "paused", "finished"]),
    )
    settings = [f"config:{key}.value" for key in ("row", "lr", "weight_decay", "seed")]
    said = [f"summary:{name}" for name in (STATUS, *columns(study))]
    return WorkspaceView(f"{group} {name}".strip(), says, shown, [*settings, *said], sections)


def _band(study: Study) -> str:
    """The standard deviation over seeds; over the points of a grid it would mean nothing."""
    return "stddev" if deciding_phase(study) == REPEAT else "minmax"


def _curves(study: Study) -> Iterator[Any]:
    for metric in curve_metrics(study):
        yield wr.LinePlot(
            title=f"{metric}, by row",
            x=wr.Metric(EPOCH),
            y=[wr.Metric(metric)],
            groupby=wr.Config("row"),
            groupby_aggfunc="mean",
            groupby_rangefunc=_band(study),
            max_runs_to_show=1000,
        )
    yield wr.LinePlot(
        title="loss of a step, by row",
        x=wr.Metric(GLOBAL_STEP),
        y=[wr.Metric(LOSS)],
        groupby=wr.Config("row"),
        groupby_aggfunc="mean",
        groupby_rangefunc=_band(study),
        max_runs_to_show=1000,
    )
    metric = curve_metrics(study)[0]
    yield wr.LinePlot(
        title=f"{metric}, by optimizer",
        x=wr.Metric(EPOCH),
        y=[wr.Metric(metric)],
        groupby=wr.Config("optimizer"),
        groupby_aggfunc="mean",
        groupby_rangefunc=_band(study),
        max_runs_to_show=1000,
    )


def _bars(study: Study) -> Iterator[Any]:
    for column in columns(study):
        yield wr.BarPlot(
            title=study.columns.get(column, column),
            metrics=[wr.Metric(column)],
            orientation="h",
            groupby=wr.Config("row"),
            groupby_aggfunc="mean",
            groupby_rangefunc=_band(study),
            max_runs_to_show=1000,
            max_bars_to_show=100,
        )


def _sensitivity(study: Study) -> list[Any]:
    judged = study.selection.by
    grid = [wr.Config("row"), wr.Config("lr"), wr.Config("weight_decay")]
    return [
        wr.ScatterPlot(
            title=f"{judged} against the learning rate",
            x=wr.Config("lr"),
            y=wr.SummaryMetric(judged),
            log_x=True,
        ),
        wr.ParallelCoordinatesPlot(
            title="Row, rate and weight decay",
            columns=[
                *(wr.ParallelCoordinatesPlotColumn(key, log=key.name == "lr") for key in grid),
                wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(judged)),
            ],
        ),
        wr.ParameterImportancePlot(with_respect_to=judged),
    ]


def search_views(search: Search) -> list[WorkspaceView]:
    """The one run of a search: its rewards, its controller, its children."""
    group = group_of(search.search, search.scale)
    x = wr.Metric(SAMPLES)

    def lines(title: str, *names: str, **more: Any) -> Any:
        return wr.LinePlot(title=title, x=x, y=[wr.Metric(name) for name in names], **more)

    sections = {
        "Rewards": [
            lines(
                "Reward of each sample", "reward", point_visualization_method="bucketing-gorilla"
            ),
            lines("Reward: mean, recent, best", "reward_mean", "reward_lately", "reward_best"),
        ],
        "Controller": [
            lines("Entropy of a string, nats", "entropy"),
            lines("Staleness, updates", "staleness"),
            lines(
                "Outcomes of the samples",
                *(f"count_{status}" for status in COUNTED),
                plot_type="stacked-area",
            ),
        ],
        "Children": [wr.WeavePanelSummaryTable(table_name=CHILDREN, layout=wr.Layout(w=24, h=12))],
    }
    says = "One point per sample with a reward; every child is a row of the table."
    said = [f"summary:{name}" for name in ("reward_best", BEST_RULE, SAMPLES)]
    return [WorkspaceView(group, says, expr.And(expr.Metric("Group") == group), said, sections)]
