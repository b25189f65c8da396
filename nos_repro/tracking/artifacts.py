"""What W&B keeps as files, for those who ask for it: checkpoints and tables."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.tracking.connection import Mode, RunMemory, close_run, import_wandb, open_run
from nos_repro.tracking.metrics import columns, group_of

log = logging.getLogger(__name__)

TABLE = "trials"
SETTINGS = ("row", "seed", "lr", "weight_decay", "status")
"""The first columns of the table of a study's trials."""


def log_files(run: Any, name: str, kind: str, files: Iterable[Path]) -> None:
    """Logs those of the files that exist as the artifact ``name``. They are not copied: offline,
    `wandb sync` reads them where they are."""
    artifact = import_wandb().Artifact(name, type=kind)
    for file in files:
        if file.exists():
            artifact.add_file(str(file.absolute()), policy="immutable")
    run.log_artifact(artifact)


def log_table(study: Study, rows: Iterable[Outcome], root: Path, mode: Mode) -> None:
    """Logs a study's trials as a table and its records as an artifact, to a run of their own."""
    memory = RunMemory.recall(root / "wandb.json", f"{study.study}-{study.scale}-table")
    if memory is None:
        return
    named = {
        "id": memory.id,
        "name": f"{study.study} ({study.scale}), table",
        "group": group_of(study.study, study.scale),
        "job_type": "table",
    }
    run = open_run(mode, root.absolute(), lambda: named, lambda run: None)
    if run is None:
        return
    memory.of(run).save()
    try:
        table = import_wandb().Table(
            columns=[*SETTINGS, *columns(study), *papers_columns(study)],
            data=list(table_rows(study, rows)),
            allow_mixed_types=True,
        )
        run.log({TABLE: table})
        log_files(run, f"{study.study}-{study.scale}-records", "records", [root / "records.jsonl"])
    except Exception:
        log.warning("the table was not logged to W&B", exc_info=True)
    close_run(run)


def table_rows(study: Study, rows: Iterable[Outcome]) -> Iterable[list[Any]]:
    """A row per trial that gives a row of the study its number."""
    for outcome in rows:
        for record in outcome.counting:
            trial = record.trial
            settings = (trial["seed"], trial["lr"], trial["weight_decay"], record.status)
            ours = map(record.column, columns(study))
            paper = [outcome.row.paper.get(c) for c in papers_columns(study).values()]
            yield [outcome.name, *settings, *ours, *paper]


def papers_columns(study: Study) -> dict[str, str]:
    """The columns for which the paper has a number, by the name of the one with that number."""
    printed = {column for row in study.rows.values() for column in row.paper}
    return {f"paper_{column}": column for column in study.columns if column in printed}
