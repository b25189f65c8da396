"""Claims, and what the records say of them, as documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nos_repro.report.claims.judge import Judged
from nos_repro.report.claims.plan import SeedPlan
from nos_repro.report.documents.base import Document, document


def claims_document(judged: Sequence[Judged], more: Sequence[Judged]) -> Document:
    """Every claim with its findings, one for each scale that has records; ``more`` go beyond the
    papers and are not counted."""
    counts = Counter(finding.verdict for each in judged for finding in each.findings)
    return document(
        "claims",
        counts=dict(counts),
        claims=[claim_data(each) for each in judged],
        beyond=[claim_data(each) for each in more],
    )


def claim_data(judged: Judged) -> Document:
    claim = judged.claim
    return {
        "id": claim.id,
        "says": claim.says,
        "place": claim.place,
        "source": claim.test.source if claim.test is not None else "",
        "untested": claim.untested,
        "findings": judged.findings,
    }


def plan_document(plan: SeedPlan) -> Document:
    """Which runs would decide the most claims."""
    return document(
        "plan",
        hours=plan.hours,
        runs=plan.chosen,
        seeds_needed=plan.needed,
        not_by_seeds=plan.others,
    )
