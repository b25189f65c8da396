"""A board as a document."""

from __future__ import annotations

from nos_repro.report.board.measures import NEVER, Bounded
from nos_repro.report.board.standing import BoardRow, BoardStanding, BoardTask, Placed
from nos_repro.report.board.table import board_tables, origin_lines
from nos_repro.report.documents.base import Document, document, table_data


def board_document(found: BoardStanding) -> Document:
    """The tables as printed, and their numbers; a time that is infinite is null."""
    return document(
        "board",
        board=found.lead,
        scale=found.scale,
        reference=found.reference,
        share=found.share,
        never=NEVER,
        tasks=[_task(task) for task in found.tasks],
        rows=[_row(row) for row in found.rows],
        tables=[table_data(table) for table in board_tables(found)],
        origin=origin_lines(found),
        problems=found.problems,
    )


def _task(task: BoardTask) -> Document:
    return {
        "task": task.name,
        "study": task.study.study,
        "metric": task.metric,
        "column": task.column,
        "target": task.target,
        "seeds": task.seeds,
        "why": task.why,
        "missing": task.missing,
    }


def _row(row: BoardRow) -> Document:
    return {
        "name": row.name,
        "score": None if row.score is None else _estimate(row.score),
        "missing": row.missing,
        "reached": row.reached,
        "seconds_per_update": row.pace,
        "profile": None if row.profile is None else
        {"taus": row.profile.taus, "shares": row.profile.shares},
        "tasks": {task: _placed(each) for task, each in row.placed.items()},
    }  # fmt: skip


def _placed(found: Placed) -> Document:
    end = found.end
    return {
        "time": found.time,
        "speedup": _estimate(found.speedup),
        "verdict": found.verdict,
        "difference": end.mean,
        "difference_interval": [end.mean - end.half, end.mean + end.half],
        "seeds": end.n,
        "lost": end.lost,
        "chosen": found.chosen,
        "tried": found.tried,
        "edges": found.edges,
        "stale": found.stale,
    }


def _estimate(number: Bounded) -> Document:
    return {"value": number.value, "low": number.low, "high": number.high}
