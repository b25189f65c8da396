"""The verdicts on a study's cells, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from nos_repro.experiments.columns import STATE
from nos_repro.experiments.schema import Study
from nos_repro.report.layout import GLUE, Cell, Column, ReportTable
from nos_repro.report.study.table import NONE, STALE, show
from nos_repro.report.study.verdict import CellVerdict, counted

NO_NUMBERS = "There are no numbers to compare with: no row has any under `paper`."


def verdict_table(
    study: Study, cells: Sequence[CellVerdict], notes: Sequence[str] = ()
) -> ReportTable:
    """One line per cell: the paper's value, ours with its interval, the difference, the verdict.
    More ``notes`` follow the table's own."""
    heading = [f"Verdicts: {study.title}"]
    if not cells:
        return ReportTable(heading, [], [], [NO_NUMBERS])
    titles = (
        "row",
        "column",
        "paper",
        "ours",
        "95 %",
        "difference, 95 %",
        "verdict",
        "why",
    )
    rows = [[Cell(text) for text in _words(cell)] for cell in cells]
    return ReportTable(heading, list(map(Column, titles)), rows, [*_notes(study, cells), *notes])


def _words(cell: CellVerdict) -> tuple[str, ...]:
    ours = NONE if cell.ours is None else show(cell.ours) + (STALE if cell.stale else "")
    if cell.column == STATE and cell.ours is not None:
        ours = f"{cell.ours.mean:g}"
    return (
        cell.row,
        cell.title,
        str(cell.paper),
        ours,
        _interval_words(cell),
        difference_words(cell),
        cell.verdict,
        cell.reason,
    )


def _interval_words(cell: CellVerdict) -> str:
    """`[95.20, 95.60]`."""
    if cell.interval is None or cell.metric is None or cell.ours is None or cell.ours.n < 2:
        return NONE
    low, high = map(cell.metric.decimals, (cell.interval.low, cell.interval.high))
    return f"[{low},{GLUE}{high}]"


def difference_words(cell: CellVerdict) -> str:
    """`-0.12 [-0.40, +0.16]`."""
    if cell.difference is None or cell.metric is None:
        return NONE
    signed, interval = cell.metric.signed, cell.difference_interval
    words = "" if interval is None else f" [{signed(interval.low)}, {signed(interval.high)}]"
    return f"{signed(cell.difference)}{words}".replace(" ", GLUE)


def _notes(study: Study, cells: Sequence[CellVerdict]) -> list[str]:
    notes = [f"{len(cells)} cell{'s' if len(cells) != 1 else ''}: {counted(cells)}."]
    judged = {c.metric.name: c.metric for c in cells if c.metric and c.tolerance is not None}
    notes += [f"Tolerance of {name}: {judged[name].tolerance}." for name in sorted(judged)]
    if any(cell.difference is not None for cell in cells):
        notes.append(
            "The difference's interval assumes our spread for the paper's runs too, which prints"
            " none; none is corrected for how many cells there are."
        )
    if any(cell.stale for cell in cells):
        notes.append(f"{STALE} stale: made, or chosen, by code that has changed since.")
    return notes
