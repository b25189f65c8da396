"""A duel as a document, which is also how it is stored."""

from __future__ import annotations

import math

from nos_repro.experiments.code import trial_code
from nos_repro.experiments.selection import Outcome
from nos_repro.launch.duel.contest import Duel
from nos_repro.launch.duel.sequence import ALPHA
from nos_repro.launch.duel.standing import DuelOutcome
from nos_repro.report.documents.base import Document, document


def duel_document(found: DuelOutcome) -> Document:
    """The verdict, what it rests on, and what it has cost. Differences are the first row's values
    less the second's, whichever way is better."""
    duel, judgement, spent = found.duel, found.judgement, found.spent
    metric, estimate = duel.metric, judgement.estimate
    sign, known = metric.sign, math.isfinite(estimate.half)
    return document(
        "duel",
        study=duel.study.study,
        source=duel.study.source,
        scale=duel.study.scale,
        rows=[_side(duel, row) for row in (found.one, found.other)],
        column=duel.column,
        title=duel.title,
        unit=metric.unit,
        digits=metric.digits,
        direction=metric.direction,
        verdict=judgement.verdict,
        reason=_reason(found),
        pairs=judgement.pairs,
        difference=sign * estimate.mean if estimate.n else None,
        interval=sorted((sign * estimate.low, sign * estimate.high)) if known else None,
        level=1 - ALPHA,
        spread=estimate.spread,
        diverged=[judgement.lost, judgement.other_lost],
        margin=duel.margin,
        more_pairs=judgement.more,
        ended=found.ended,
        cost={"unit": spent.unit.name, "tuning": spent.tuning, "pairs": spent.pairs},
        limits={"pairs": duel.limits.pairs, "hours": duel.limits.hours},
        stale=found.stale,
        seeds=[
            {"seed": pair.seed, "scores": [_value(sign, pair.one), _value(sign, pair.other)]}
            for pair in duel.pairs({duel.one: found.one, duel.other: found.other})
        ],
    )


def _value(sign: float, score: float | None) -> float | None:
    return None if score is None else sign * score


def _side(duel: Duel, row: Outcome) -> Document:
    """``settings`` and ``code`` of the chosen point tell later whether the verdict is stale."""
    settings = None if row.chosen is None else row.chosen.trial.to_json()
    return {
        "row": row.name,
        "optimizer": row.row.optimizer,
        "schedule": row.row.schedule or duel.study.schedule,
        "points": len(row.sweep),
        "chosen": None if row.chosen is None else str(row.chosen.point),
        "edges": row.edges,
        "settings": settings,
        "code": None if settings is None else trial_code(settings),
    }


def _reason(found: DuelOutcome) -> str:
    if found.ended != "no rate trains":
        return found.judgement.reason
    lost = [row.name for row in (found.one, found.other) if row.chosen is None]
    return f"every point of the grid diverged: {'; '.join(lost)}"
