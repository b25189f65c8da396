"""An arena as a document."""

from __future__ import annotations

import math

from nos_repro.report.arena.standing import (
    ArenaStanding,
    RowStanding,
    mean_of,
    median_of,
    ratio_of_medians,
)
from nos_repro.report.arena.table import arena_table, origin_lines
from nos_repro.report.documents.base import Document, document, table_data


def arena_document(found: ArenaStanding) -> Document:
    """The table as printed, and its numbers; a time that is infinite is null."""
    arena = found.arena
    return document(
        "arena",
        arena=arena.arena,
        table=arena.table,
        task=arena.task,
        claim=arena.claim,
        budgets=arena.budgets,
        top=arena.top,
        rows=[_row(found, row) for row in found.played],
        tables=[table_data(arena_table(found))],
        origin=origin_lines(found),
        problems=found.problems,
    )


def _row(found: ArenaStanding, row: RowStanding) -> Document:
    arena, reference = found.arena, found.reference
    reached = [budget for budget in arena.budgets if row.reaches(budget)]
    ranks = {str(b): found.ranks(b).get(row.name) for b in reached}
    ratio = None
    if reference is not None and reference is not row:
        ratio = ratio_of_medians(row.needed(-1), reference.needed(-1))
    return {
        "name": row.name,
        "algorithm": dict(row.section or {}),
        "space": row.row.space,
        "runs": len(row.records),
        "best": {str(b): mean_of(list(row.best_at(b).values())) for b in reached},
        "ranks": {budget: rank for budget, rank in ranks.items() if rank is not None},
        "found": [
            {
                "share": share,
                "runs": sum(map(math.isfinite, row.needed(place))),
                "children": median_of(row.needed(place)),
            }
            for place, share in enumerate(arena.top)
        ],
        "times_the_reference": ratio,
        "seconds": sum(record["seconds"] for record in row.records),
        "stale": row.stale,
    }
