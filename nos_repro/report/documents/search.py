"""A search as documents: its report, and how far it is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from nos_repro.report.documents.base import Document, document, table_data
from nos_repro.report.layout import ReportTable
from nos_repro.report.search.files import search_tables
from nos_repro.report.search.history import History, Reward
from nos_repro.report.search.made_by import stale_lines
from nos_repro.report.search.protocol import origin_lines
from nos_repro.report.search.tables import BEST_RULES, STATUSES
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.budget import Budget
from nos_repro.search.child import Evaluation
from nos_repro.search.side_runs import SideRun


def search_document(
    history: History, problems: Sequence[str], tables: Sequence[ReportTable] | None = None
) -> Document:
    """The report of a search: its best rules, its rewards in numbers, every table as printed.

    ``tables`` are those of `search_tables`, if they are made already.
    """
    asked, tally = history.asked, history.tally
    return document(
        "search",
        search=asked.search,
        source=asked.source,
        scale=asked.scale,
        claim=asked.claim,
        samples=asked.samples,
        budget=budget_data(asked.budget),
        sampled=tally.sampled,
        evaluated=tally.evaluated,
        unique=history.unique,
        withdrawn=history.withdrawn,
        children=history.children,
        worker_hours=history.seconds / 3600,
        rewards=_rewards(history.rewards),
        refused=dict(history.refused),
        best=history.best(BEST_RULES),
        baselines=[_beside(history, *pair) for pair in history.baselines],
        confirmed=[_beside(history, *pair) for pair in history.of("confirm")],
        tables=[table_data(table) for table in tables or search_tables(history)],
        origin=origin_lines(history),
        stale=stale_lines(history),
        notes=history.notes,
        problems=problems,
    )


def budget_data(budget: Budget) -> Document:
    """What ends the search, whichever comes first."""
    return {"samples": budget.samples, "children": budget.children or None}


def _beside(history: History, run: SideRun, found: Evaluation) -> Document:
    """A child beside the search: a baseline, or a rule with a fresh seed."""
    baseline = history.is_baseline(run)
    return {
        "name": run.name if baseline else simplest_text(run.name),
        "optimizer": run.optimizer,
        "baseline": baseline,
        "seed": run.seed,
        "status": found.status,
        "reward": found.reward,
        "lr": found.lr,
        "metrics": found.metrics,
    }


def _rewards(rewards: Sequence[Reward]) -> Document:
    values = [reward.reward for reward in rewards]
    kinds = [reward.status for reward in rewards]
    return {
        "mean": statistics.fmean(values) if values else None,
        "best": max(values, default=None),
        "by_status": {kind: kinds.count(kind) for kind in STATUSES if kind in kinds},
    }
