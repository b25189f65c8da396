"""What pages have in common: a template, charts, the claims, and what frames a study or search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nos_repro.report.claims.evidence import VERDICTS
from nos_repro.report.claims.judge import Judged
from nos_repro.report.claims.page import claim_tables
from nos_repro.report.documents.base import Document
from nos_repro.report.pages.charts import Chart, Line
from nos_repro.report.pages.static_figure import Picture
from nos_repro.report.pages.tables import Badge, PageTable, counts, page_table
from nos_repro.report.paths import file_of, results_words
from nos_repro.report.words import versions

DECIDED = ("holds", "does not hold")


@dataclass(frozen=True)
class ClaimLine:
    """``source`` is the study or search that decides it, ``page`` its page; "" for none."""

    id: str
    says: str
    place: str
    scale: str
    badge: Badge
    reason: str
    effects: PageTable
    source: str
    page: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that a page says, as plain data, and the ``template`` that says it."""

    template: ClassVar[str]

    document: Document
    """What the page's verb prints with `--format json`; the page holds it."""

    @property
    def charts(self) -> list[Chart]:
        return []

    @property
    def choices(self) -> list[tuple[str, list[str]]]:
        """Choices of lines that the legend offers besides all and none, by their keys."""
        return []

    @property
    def lines(self) -> list[Line]:
        """The one legend of all charts."""
        return list({line.key: line for chart in self.charts for line in chart.lines}.values())

    def charts_json(self) -> dict[str, Any]:
        """What `assets/charts.js` reads."""
        return {
            "lines": [vars(line) for line in self.lines],
            "choices": self.choices,
            "charts": [chart.to_json() for chart in self.charts],
        }

    def behind_json(self) -> dict[str, Any] | None:
        """What `assets/behind.js` reads: where the numbers of the page come from."""
        return None


@dataclass(frozen=True, kw_only=True)
class OwnPage(Page):
    """The page of one study or search. ``name`` is its file's, ``title`` what people call it."""

    name: str
    title: str
    scale: str
    source: str
    papers: bool
    """Whether it repeats something of the papers, rather than being a user's own."""
    says: str
    """The sentence that it puts to the test; it is the paper's, never our finding."""
    heading: list[str]
    problems: list[str]
    picture: Picture | None
    origin: list[str]
    commands: list[str]
    claims: list[ClaimLine] = field(default_factory=list)
    index: str = ""
    """Where the index lies; "" for a page of its own."""

    @property
    def decided(self) -> list[ClaimLine]:
        return [line for line in self.claims if line.badge.word in DECIDED]

    @property
    def undecided(self) -> list[ClaimLine]:
        return [line for line in self.claims if line.badge.word not in DECIDED]

    @property
    def undecided_badges(self) -> list[Badge]:
        return counts((line.badge.word for line in self.undecided), VERDICTS)


def commands(verb: str, words: str, results: Path, file: str) -> list[str]:
    """The commands that train it and make its page; ``words`` name it on a command line."""
    name = words + results_words(results)
    return [
        f"python -m nos_repro {verb} {name}",
        f"python -m nos_repro report {name} --html {file}",
    ]


def claim_lines(judged: Sequence[Judged], pages: set[str]) -> list[ClaimLine]:
    """``pages`` are the files of the pages that exist."""
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
                    versions(each.claim.place),
                    finding.scale,
                    Badge(finding.verdict),
                    versions(finding.reason),
                    page_table(table),
                    source,
                    page if page in pages else "",
                )
            )
    return lines
