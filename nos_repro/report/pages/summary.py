"""The table of a study's page: its numbers beside the paper's, the best row first."""

from __future__ import annotations

from collections.abc import Sequence

from nos_repro.experiments.columns import metric_of
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.layout import Column, ReportTable
from nos_repro.report.pages.ranking import main_column
from nos_repro.report.pages.tables import Badge, PageCell, PageTable, is_number
from nos_repro.report.study.verdict import CellVerdict
from nos_repro.report.study.verdict_table import difference_words
from nos_repro.report.words import versions

UNCOMPARED = "not comparable (scale)"
CHOSEN = "chosen"


def summary_table(
    study: Study,
    table: ReportTable,
    rows: Sequence[Outcome],
    order: Sequence[int],
    verdicts: Sequence[CellVerdict],
) -> PageTable:
    """The rows in ``order``, numbers first and what was chosen last. A number opens its provenance,
    the paper's own carries the verdict, unless all of them have the same one for their scale: that
    is said once, by the page."""
    judged = {(cell.row, cell.column): cell for cell in verdicts}
    silent = all(cell.verdict == UNCOMPARED for cell in verdicts)
    places = sorted(range(len(table.columns)), key=lambda n: table.columns[n].title == CHOSEN)
    body = []
    for number in order:
        cells = []
        for place in places:
            cell, column = table.rows[number][place], table.columns[place]
            verdict = judged.get((rows[number].name, column.of)) if column.paper else None
            badge = None if verdict is None or silent else _badge(verdict)
            opens = None if column.paper else number
            numeric = is_number(cell.text) and badge is None
            cells.append(PageCell(cell.text, cell.best, cell.signs, badge, opens, numeric))
        body.append(cells)
    titles = [_title(study, table.columns[place]) for place in places]
    notes = list(map(versions, table.notes))
    columns = [table.columns[place] for place in places]
    return PageTable([], titles, body, notes, table.best, _sorted_by(study, columns))


def _sorted_by(study: Study, columns: Sequence[Column]) -> tuple[int, bool] | None:
    """The place of the column that ranks the rows, and whether larger is better there."""
    main = main_column(study)
    for place, column in enumerate(columns):
        if main and column.of == main and not column.paper:
            return place, metric_of(study.task["name"], main).sign > 0
    return None


def _title(study: Study, column: Column) -> str:
    """`Best Test`, `Best Test, paper°`: no two are alike. A note says what the sign means."""
    if not column.of:
        return column.title
    own = study.columns[column.of]
    return f"{own}, {column.short or column.title}" if column.paper else own


def _badge(verdict: CellVerdict) -> Badge:
    gap = f"difference {difference_words(verdict)}: " if verdict.difference is not None else ""
    return Badge(verdict.verdict, why=gap + verdict.reason)
