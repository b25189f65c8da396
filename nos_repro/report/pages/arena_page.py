"""The page of an arena, as plain data: its curves, and its table to sort and filter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nos_repro.report.arena.figure import course
from nos_repro.report.arena.standing import ArenaStanding
from nos_repro.report.arena.table import arena_table, origin_lines
from nos_repro.report.documents.arena import arena_document
from nos_repro.report.layout import ReportTable
from nos_repro.report.pages.charts import (
    DASHES,
    Chart,
    Control,
    Line,
    Trace,
    Variant,
    band,
    layout,
    short,
    shown,
)
from nos_repro.report.pages.nosbench_page import TableLine
from nos_repro.report.pages.page import commands
from nos_repro.report.pages.search_page import SearchPage
from nos_repro.report.pages.static_figure import arena_picture
from nos_repro.report.pages.tables import page_table
from nos_repro.report.study.curve import style
from nos_repro.search.arena.runs import FOLDER

BEST, FOUND = "best", "found"


def arena_file(found: ArenaStanding) -> str:
    """The file name of an arena's page: `arena-controller.html`."""
    return f"{FOLDER}-{found.arena.arena}.html"


def arena_line(found: ArenaStanding) -> TableLine:
    """The line of the index."""
    arena = found.arena
    runs = sum(len(row.records) for row in found.rows)
    words = f"{len(found.played)} algorithms on the table {arena.table}, {runs:,} runs"
    return TableLine(f"Arena: {arena.arena}", arena_file(found), arena.claim, words)


def arena_page(
    found: ArenaStanding, *, results: Path = Path("results"), index: str = ""
) -> SearchPage:
    arena = found.arena
    table = arena_table(found)
    algorithms = ReportTable(["Algorithms"], table.columns, table.rows, table.notes)
    return SearchPage(
        document=arena_document(found),
        name=arena_file(found).removesuffix(".html"),
        title=f"Arena: {arena.arena}",
        scale="any",
        source="",
        papers=False,
        says=arena.claim,
        heading=table.heading[:1],
        problems=found.problems,
        course=_chart(found),
        picture=arena_picture(found),
        tables=[page_table(algorithms)],
        origin=origin_lines(found),
        commands=commands("arena", arena.arena, results, arena_file(found))[:1],
        index=index,
    )


def _chart(found: ArenaStanding) -> Chart | None:
    """The best rule so far, or the share of runs that have found a top rule."""
    if not found.played:
        return None
    top = found.arena.top[-1]
    best: list[Trace] = []
    share: list[Trace] = []
    lines = []
    for number, row in enumerate(found.played):
        colour, dash = style(number)
        curve = course(row)
        x = [int(n) for n in curve.children]
        look = {"color": colour, "dash": DASHES[dash], "width": 2}
        low, high = curve.mean - curve.half, curve.mean + curve.half
        best.append(band(row.name, x, short(low), short(high), _faint(colour)))
        best.append(_line(row.name, x, short(curve.mean), look))
        share.append(_line(row.name, x, short(curve.share), look))
        lines.append(Line(row.name, row.name, colour, DASHES[dash]))
    axis = {"type": "log"}
    words = "reward of the best rule so far, by the judges"
    return Chart(
        "course",
        "Reward against children",
        [
            Variant([BEST], best, layout("children", words, xaxis=axis)),
            Variant(
                [FOUND], share, layout("children", f"runs that found the top {top:.1%}", xaxis=axis)
            ),
        ],
        lines,
        [Control("Shown", [(BEST, "best rule so far"), (FOUND, f"found the top {top:.1%}")])],
        words=["Means over the seeds, with 95 % bands."],
    )


def _line(name: str, x: list[int], y: list[float | None], look: dict[str, Any]) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": shown(name),
        "legendgroup": name,
        "x": x,
        "y": y,
        "line": look,
        "hovertemplate": "<b>%{fullData.name}</b><br>%{x} children: %{y:.4f}<extra></extra>",
    }


def _faint(colour: str) -> str:
    """The colour of a band."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
