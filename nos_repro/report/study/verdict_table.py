"""The verdicts on a study's cells, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from nos_repro.experiments.schema import Study
from nos_repro.report.layout import GLUE, Cell, Column, Table
from nos_repro.report.study.table import NONE, STALE, STATE, show
from nos_repro.report.study.verdict import TOLERANCES, CellVerdict, counted, metric_of


def verdict_table(study: Study, cells: Sequence[CellVerdict]) -> Table:
    """A line a cell: the paper's value, ours with its interval, the difference, the verdict."""
    heading = [f"Verdicts: {study.study} ({study.source}), scale {study.scale}"]
    if not cells:
        return Table(heading, [], [], ["The paper prints no numbers for this."])
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
    return Table(heading, list(map(Column, titles)), rows, _notes(study, cells))


def _words(cell: CellVerdict) -> tuple[str, ...]:
    ours = NONE if cell.ours is None else show(cell.ours) + (STALE if cell.stale else "")
    if cell.column == STATE and cell.ours is not None:
        ours = f"{cell.ours.mean:g}"
    known = cell.interval is not None and cell.ours is not None and cell.ours.n > 1
    interval = f"[{cell.interval.low:.2f},{GLUE}{cell.interval.high:.2f}]" if known else NONE  # type: ignore[union-attr]
    return (
        cell.row,
        cell.title,
        str(cell.paper),
        ours,
        interval,
        difference_words(cell),
        cell.verdict,
        cell.reason,
    )


def difference_words(cell: CellVerdict) -> str:
    """`-0.12 [-0.40, +0.16]`."""
    if cell.difference is None:
        return NONE
    interval = "" if cell.difference_interval is None else f" {cell.difference_interval}"
    return f"{cell.difference:+.2f}{interval}".replace(" ", GLUE)


def _notes(study: Study, cells: Sequence[CellVerdict]) -> list[str]:
    notes = [f"{len(cells)} cells: {counted(cells)}."]
    metrics = sorted(
        {metric_of(study, c.column) for c in cells if c.tolerance is not None}, key=str
    )
    for metric in metrics:
        tolerance = TOLERANCES[metric]
        size = f"{tolerance.size:.0%}" if tolerance.relative else f"{tolerance.size:g}"
        notes.append(f"Tolerance of {metric}: ±{size} {tolerance.why}.")
    if any(cell.difference is not None for cell in cells):
        notes.append(
            "The difference's interval assumes our spread for the paper's runs too, which prints"
            " none; none is corrected for how many cells there are."
        )
    if any(cell.stale for cell in cells):
        notes.append(f"{STALE} stale: made, or chosen, by code that has changed since.")
    return notes
