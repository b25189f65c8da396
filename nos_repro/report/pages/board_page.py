"""The page of a board, as plain data: profiles, speed-ups, the curves of each task, its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nos_repro.report.board.figure import last_tau
from nos_repro.report.board.standing import BoardRow, BoardStanding, BoardTask
from nos_repro.report.board.table import board_tables, origin_lines
from nos_repro.report.documents.board import board_document
from nos_repro.report.layout import ReportTable
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
)
from nos_repro.report.pages.nosbench_page import TableLine
from nos_repro.report.pages.page import commands
from nos_repro.report.pages.search_page import SearchPage
from nos_repro.report.pages.static_figure import board_picture
from nos_repro.report.pages.tables import page_table
from nos_repro.report.pages.target_chart import step
from nos_repro.report.paths import file_of

PROFILE, SCORES = "profile", "scores"


def board_file(found: BoardStanding) -> str:
    """The file name of a board's page: `board-modern-small.html`."""
    return file_of(f"board-{found.lead}", found.scale)


def board_line(found: BoardStanding) -> TableLine:
    """The line of the index."""
    scored = sum(row.score is not None for row in found.rows)
    words = f"{len(found.counted)} of {len(found.tasks)} tasks; {scored} of {len(found.rows)} rows"
    title = f"Board: {found.lead}, scale {found.scale}"
    about = found.tasks[0].study.claim
    return TableLine(title, board_file(found), about, f"{words} have a score")


def board_page(
    found: BoardStanding, words: str, *, results: Path = Path("results"), index: str = ""
) -> SearchPage:
    """``words`` name the board's studies and scale on a command line."""
    first, *others = board_tables(found)
    scores = ReportTable(["Scores"], first.columns, first.rows, first.notes)
    return SearchPage(
        document=board_document(found),
        name=board_file(found).removesuffix(".html"),
        title=f"Board: {found.lead}",
        scale=found.scale,
        source="",
        papers=False,
        says=found.tasks[0].study.claim,
        heading=first.heading,
        problems=found.problems,
        course=_chart(found),
        course_word="Speed",
        picture=board_picture(found),
        tables=[page_table(table) for table in (scores, *others)],
        origin=origin_lines(found),
        commands=commands("board", words, results, board_file(found))[:1],
        index=index,
    )


def _chart(found: BoardStanding) -> Chart | None:
    """None while no task has a target."""
    if not found.counted:
        return None
    lines = lines_of([row.name for row in found.rows])
    pairs = list(zip(found.rows, lines, strict=True))
    variants = [_profiles(found, pairs), _scores(found, pairs)]
    variants += [_curves(found, task, pairs) for task in found.counted]
    options = [(PROFILE, "performance profile"), (SCORES, "scores")]
    options += [(task.name, f"curves: {task.name}") for task in found.counted]
    return Chart(
        "course",
        "Speed",
        variants,
        lines,
        [Control("Shown", options)],
        log=True,
        words=[
            "Profile: the share of the tasks whose target a row reaches within a factor of the"
            " fastest row's time; at the left how often it is the fastest, at the right how often"
            " it arrives at all (Dolan and Moré 2002). Profiles compare with the fastest row:"
            " without some rows, others may change their order (Gould and Scott 2016). Scores: with"
            " 95 % intervals. Curves: means over the seeds; the dotted line is the target."
        ],
    )


Pairs = Sequence[tuple[BoardRow, Line]]


def _profiles(found: BoardStanding, pairs: Pairs) -> Variant:
    last = 1.1 * last_tau(found)
    data = [step(row.profile, line, last) for row, line in pairs if row.profile is not None]
    x = {"type": "log", "range": [0, math.log10(last)], "exponentformat": "none"}
    y = {"range": [-0.02, 1.04], "tickformat": ".0%"}
    axes = "within this factor of the fastest row's time", "share of tasks"
    return Variant([PROFILE], data, layout(*axes, xaxis=x, yaxis=y))


def _scores(found: BoardStanding, pairs: Pairs) -> Variant:
    data: list[Trace] = []
    for row, line in pairs:
        if row.score is None:
            continue
        value, low, high = row.score
        known = not math.isnan(low)
        data.append({
            "type": "scatter",
            "mode": "markers",
            "name": shown(row.name),
            "legendgroup": line.key,
            "x": short([value]),
            "y": [shown(row.name)],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": short([high - value]),
                "arrayminus": short([value - low]),
                "visible": known,
            },
            "marker": {"size": 9, "color": line.colour},
            "hovertemplate": "<b>%{fullData.name}</b><br>%{x:.3f}<extra></extra>",
        })  # fmt: skip
    shape = layout(
        f"speed against {found.reference}",
        "",
        yaxis={"type": "category", "autorange": "reversed"},
        meta={"row_height": 26},
        shapes=[{"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1,
                 "line": {"width": 1, "dash": "dot", "color": "#888888"}}],
    )  # fmt: skip
    return Variant([SCORES], data, shape)


def _curves(found: BoardStanding, task: BoardTask, pairs: Pairs) -> Variant:
    data: list[Trace] = []
    for row, line in pairs:
        own = task.placed.get(row.name)
        if own is None or not own.curve:
            continue
        data.append({
            "type": "scatter",
            "mode": "lines",
            "name": shown(row.name),
            "legendgroup": line.key,
            "x": short(epoch for epoch, _ in own.curve),
            "y": short(value for _, value in own.curve),
            "line": {"color": line.colour, "dash": line.dash, "width": 2},
            "hovertemplate": "<b>%{fullData.name}</b><br>epoch %{x}: %{y:.4g}<extra></extra>",
        })  # fmt: skip
    assert task.target is not None
    data.append({
        "type": "scatter",
        "mode": "lines",
        "name": "target",
        "x": [0, task.study.training.epochs],
        "y": short([task.target] * 2),
        "line": {"color": "#888888", "dash": "dot", "width": 1},
        "hoverinfo": "skip",
    })  # fmt: skip
    return Variant([task.name], data, layout("epochs", task.metric))
