"""How far a study or a search is, as documents."""

from __future__ import annotations

from nos_repro.report.documents.base import Document, document
from nos_repro.report.documents.search import budget_data
from nos_repro.report.search.history import History
from nos_repro.report.search.status import who
from nos_repro.report.study.status import StudyStatus


def study_status_document(found: StudyStatus) -> Document:
    study = found.study
    return document(
        "study status",
        study=study.study,
        source=study.source,
        scale=study.scale,
        ended=found.ended,
        total=found.total,
        counts=found.counts,
        rows=[
            {
                "row": row.row,
                "sweep": dict(zip(("ended", "asked"), row.sweep, strict=True)),
                "repeats": dict(zip(("ended", "asked"), row.repeats, strict=True)),
                "chosen": row.chosen,
                "remarks": row.remarks,
            }
            for row in found.rows
        ],
        running=[
            {
                "trial": trial.id,
                "label": trial.label(),
                "step": claim.step,
                "steps": claim.steps,
                "host": claim.host,
                "pid": claim.pid,
                "metrics": claim.latest or {},
            }
            for trial, claim in found.running
        ],
        queued=[
            {"trial": trial.id, "label": trial.label(), "state": place}
            for trial, place in found.queued
        ],
        failures=[
            {"trial": trial.id, "label": trial.label(), "reason": record.reason, "log": log}
            for trial, record, log in found.failed
        ],
        problems=found.problems,
    )


def search_status_document(history: History) -> Document:
    asked, tally = history.asked, history.tally
    return document(
        "search status",
        search=asked.search,
        source=asked.source,
        scale=asked.scale,
        samples=asked.samples,
        budget=budget_data(asked.budget),
        sampled=tally.sampled,
        evaluated=tally.evaluated,
        unique=history.unique,
        withdrawn=history.withdrawn,
        under_way=tally.sampled - tally.evaluated - history.withdrawn,
        children=history.children,
        worker_hours=history.seconds / 3600,
        who=who(history),
        baselines=len(history.of("baseline")),
        confirmed=len(history.of("confirm")),
        refused_trained=len(history.of("refused")),
        notes=history.notes,
        problems=history.problems,
    )
