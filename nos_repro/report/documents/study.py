"""A study as documents: its table, its verdicts, why a row says what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nos_repro.experiments.columns import STATE
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.documents.base import Document, document, number_data, table_data
from nos_repro.report.layout import GLUE, ReportTable
from nos_repro.report.scale_orders import ScaleOrders
from nos_repro.report.study import protocol
from nos_repro.report.study.precision import PrecisionTest
from nos_repro.report.study.rows import is_complete, values_per_parameter
from nos_repro.report.study.table import show, study_table
from nos_repro.report.study.verdict import CellVerdict
from nos_repro.report.study.why import Why


def study_document(
    study: Study,
    rows: Sequence[Outcome],
    cells: Sequence[CellVerdict],
    problems: Sequence[str],
    table: ReportTable | None = None,
    duels: Sequence[Document] = (),
) -> Document:
    """The study's table, with the verdict on every cell that the paper prints, and its stored
    ``duels``; ``table`` is the printed one, if it is made already."""
    verdicts = {(cell.row, cell.column): verdict_data(cell) for cell in cells}
    return document(
        "study",
        study=study.study,
        source=study.source,
        scale=study.scale,
        claim=study.claim,
        papers_protocol=protocol.is_the_papers(study),
        columns=study.columns,
        rows=[_row(study, row, verdicts) for row in rows],
        complete=sum(map(is_complete, rows)),
        table=table_data(table or study_table(study, rows)),
        duels=duels,
        problems=problems,
    )


def _row(study: Study, row: Outcome, verdicts: dict[tuple[str, str], Document]) -> Document:
    cells = {}
    for column in study.columns:
        state = values_per_parameter(row.row, study.task) if column == STATE else None
        number = row.number(column) if column != STATE else None
        cells[column] = {
            "ours": number_data(number) if state is None else {"mean": state, "std": 0.0, "n": 1},
            "text": None if number is None else show(number).replace(GLUE, " "),
            "paper": row.row.paper.get(column),
            "verdict": verdicts.get((row.name, column)),
        }
    return {
        "row": row.name,
        "optimizer": row.row.optimizer,
        "schedule": row.row.schedule,
        "chosen": None if row.chosen is None else str(row.chosen.point),
        "edges": row.edges,
        "cells": cells,
        "complete": is_complete(row),
        "stale": row.stale,
        "missing": row.missing,
        "diverged": row.diverged,
        "failed": row.failed,
        "trials": [record.id for record in row.counting],
    }


def verdicts_document(
    study: Study, cells: Sequence[CellVerdict], tests: Sequence[PrecisionTest]
) -> Document:
    """The verdict on every cell that the paper prints, with the ``tests`` whether our precision
    matters, of a study that is not in the paper's."""
    return document(
        "verdicts",
        study=study.study,
        source=study.source,
        scale=study.scale,
        counts=dict(Counter(cell.verdict for cell in cells)),
        verdicts=[verdict_data(cell) for cell in cells],
        precision_tests=[_precision_test(test) for test in tests],
    )


def _precision_test(test: PrecisionTest) -> Document:
    found = test.comparison
    return {
        "row": test.row,
        "column": test.column,
        "title": test.title,
        "verdict": test.verdict,
        "difference": found.mean,
        "difference_interval": [found.mean - found.half, found.mean + found.half],
        "tolerance": test.tolerance,
        "seeds": found.n,
    }


def verdict_data(cell: CellVerdict) -> Document:
    def ends(interval: object) -> list[float] | None:
        return None if interval is None else [interval.low, interval.high]  # type: ignore[attr-defined]

    return {
        "row": cell.row,
        "column": cell.column,
        "title": cell.title,
        "place": cell.place,
        "verdict": cell.verdict,
        "reason": cell.reason,
        "paper": cell.paper,
        "ours": number_data(cell.ours),
        "interval": ends(cell.interval),
        "difference": cell.difference,
        "difference_interval": ends(cell.difference_interval),
        "tolerance": cell.tolerance,
        "more_seeds": cell.more_seeds,
        "stale": cell.stale,
        "precision": cell.precision,
    }


def why_document(why: Why) -> Document:
    """Everything behind the cells of a row."""
    return document(
        "why",
        study=why.study,
        scale=why.scale,
        row=why.row,
        protocol=why.protocol,
        numbers={title: text.replace(GLUE, " ") for title, text in why.numbers.items()},
        verdicts=[verdict_data(cell) for cell in why.verdicts],
        chosen=why.chosen,
        trials=why.trials,
        problems=why.problems,
        origin=why.origin,
    )


def scales_document(found: ScaleOrders) -> Document:
    """How the scales of a study order its rows."""
    return document("scales", study=found.study, column=found.column, scales=found.scales)
