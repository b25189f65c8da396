"""A table of rules as a document."""

from __future__ import annotations

import dataclasses

from nos_repro.report.documents.base import Document, document, table_data
from nos_repro.report.nosbench.tables import nosbench_tables
from nos_repro.search.table.analysis import Analysis


def nosbench_document(found: Analysis) -> Document:
    """What `report` says of a table of rules, in numbers and as printed."""
    table = found.table
    return document(
        "nosbench",
        table=table.name,
        scale=table.packed.settings["scale"],
        strings=table.space.size,
        rules=len(table.rules),
        refused=found.refused,
        tasks=[
            {**dataclasses.asdict(task), "rows": task.rows, "healthy": task.healthy}
            for task in found.tasks
        ],
        predictions=found.predictions,
        luck=[
            {
                **dataclasses.asdict(each),
                "regret": None if each.regret is None else
                {**dataclasses.asdict(each.regret), "regret": each.regret.regret},
            }
            for each in found.luck
        ],
        tables=[table_data(each) for each in nosbench_tables(found)],
    )  # fmt: skip
