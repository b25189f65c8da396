"""The verdicts on a study's cells, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from nos_repro.experiments.columns import STATE, metric_of
from nos_repro.experiments.schema import Study
from nos_repro.report.layout import GLUE, Cell, Column, Table
from nos_repro.report.study.table import NONE, STALE, show
from nos_repro.report.study.verdict import CellVerdict, counted


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
    judged = [c.column for c in cells if c.tolerance is not None]
    metrics = {metric.name: metric for metric in (metric_of(study.task["name"], c) for c in judged)}
    for name in sorted(metrics):
        notes.append(f"Tolerance of {name}: {metrics[name].tolerance}.")
    if any(cell.difference is not None for cell in cells):
        notes.append(
            "The difference's interval assumes our spread for the paper's runs too, which prints"
            " none; none is corrected for how many cells there are."
        )
    if any(cell.stale for cell in cells):
        notes.append(f"{STALE} stale: made, or chosen, by code that has changed since.")
    return notes
