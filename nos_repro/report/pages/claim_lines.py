"""The claims for a page: a line a claim and scale, with its comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nos_repro.report.claims.judge import Judged
from nos_repro.report.claims.page import claim_tables
from nos_repro.report.pages.tables import Badge, PageTable, page_table
from nos_repro.report.paths import file_of


@dataclass(frozen=True)
class ClaimLine:
    """``source`` is the study or search that decides it, ``page`` that one's file; "" for none."""

    id: str
    says: str
    place: str
    scale: str
    badge: Badge
    reason: str
    effects: PageTable
    source: str
    page: str


def claim_lines(judged: Sequence[Judged], pages: set[str]) -> list[ClaimLine]:
    """``pages`` are the files that there are."""
    lines = []
    for each in judged:
        source = each.claim.test.source if each.claim.test is not None else ""
        tables = claim_tables(each)[1:]
        for finding, table in zip(each.findings, tables, strict=True):
            page = file_of(source, finding.scale)
            lines.append(
                ClaimLine(
                    each.claim.id,
                    each.claim.says,
                    each.claim.place,
                    finding.scale,
                    Badge(finding.verdict),
                    finding.reason,
                    page_table(table),
                    source,
                    page if page in pages else "",
                )
            )
    return lines
