"""The index of all studies, searches, benchmarks and claims, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nos_repro.experiments.settings_file import shipped
from nos_repro.report.claims.evidence import VERDICTS as CLAIM_VERDICTS
from nos_repro.report.collection import Collection, FoundStudy, threads_of
from nos_repro.report.documents.claims import claims_document
from nos_repro.report.pages.benchmarks import Benchmark
from nos_repro.report.pages.nosbench_page import TableLine
from nos_repro.report.pages.page import ClaimLine, Page
from nos_repro.report.pages.ranking import main_column, ranked
from nos_repro.report.pages.sparkline import Spark, search_spark, study_spark
from nos_repro.report.pages.summary import UNCOMPARED
from nos_repro.report.pages.tables import Badge, counts
from nos_repro.report.paths import by_name, config_words, file_of, results_words
from nos_repro.report.search.history import History
from nos_repro.report.study.rows import is_complete
from nos_repro.report.study.table import show
from nos_repro.report.study.verdict import VERDICTS
from nos_repro.report.words import is_the_papers, title_of, versions


@dataclass(frozen=True)
class Card:
    """A study or search at a scale. ``progress`` is how much of it there is, of ``asked``."""

    name: str
    title: str
    scale: str
    page: str
    source: str
    papers: bool
    says: str
    """The sentence that it puts to the test; ``verdicts`` of the claims that it decides."""
    verdicts: list[Badge]
    done: int
    asked: int
    unit: str
    best: str
    best_words: str
    badges: list[Badge]
    spark: Spark | None
    hours: float
    remarks: list[str]


TITLE = "Neural Optimizer Search, reproduced"
OWN_TITLE = "Results"
"""Where there is nothing of the papers."""


@dataclass(frozen=True, kw_only=True)
class IndexPage(Page):
    """The page that leads to all others."""

    template = "index.html"
    studies: list[Card]
    searches: list[Card]
    boards: list[TableLine]
    tables: list[TableLine]
    devices: list[TableLine]
    benchmarks: list[Benchmark]
    claims: list[ClaimLine]
    """Those of the papers only beside a study or search of theirs."""
    claim_count: int
    badges: list[Badge]
    """The verdicts on the cells."""
    claim_badges: list[Badge]
    scales: list[str]
    left_out: list[str]
    problems: list[str]
    hours: float
    command: str
    """The command that makes these pages, without its last words."""
    title: str
    papers: bool
    """Whether anything is shown that repeats the papers."""

    @property
    def counted(self) -> str:
        """`7 studies, 1 search, 9.0 core-hours`."""
        studies = f"{len(self.studies)} stud{'ies' if len(self.studies) != 1 else 'y'}"
        searches = f"{len(self.searches)} search{'es' * (len(self.searches) != 1)}"
        return f"{studies}, {searches}, {self.hours:.1f} core-hours"


def index_page(
    collection: Collection,
    studies: list[Card],
    searches: list[Card],
    claims: Sequence[ClaimLine],
    benchmarks: list[Benchmark],
    boards: list[TableLine],
    tables: list[TableLine],
    devices: list[TableLine],
) -> IndexPage:
    """``studies`` and ``searches`` are those that have a page."""
    paged = {card.page for card in studies}
    cells = [
        cell.verdict
        for found in collection.studies
        if file_of(found.study.study, found.study.scale) in paged
        for cell in found.verdicts
    ]
    papers = any(card.papers for card in (*studies, *searches))
    own = {each.claim.id for each in collection.judged}
    own -= set() if papers else {each.claim.id for each in collection.papers_claims}
    claims = [line for line in claims if line.id in own]
    return IndexPage(
        document=claims_document(collection.judged, collection.beyond),
        studies=studies,
        searches=searches,
        boards=boards,
        tables=tables,
        devices=devices,
        benchmarks=benchmarks,
        claims=claims,
        claim_count=len(own),
        badges=counts(cells, VERDICTS),
        claim_badges=counts((line.badge.word for line in claims), CLAIM_VERDICTS),
        scales=list(dict.fromkeys(line.scale for line in claims)),
        left_out=collection.left_out,
        problems=[by_name(text, collection.root) for text in collection.problems],
        hours=sum(card.hours for card in (*studies, *searches)),
        command=_command(collection),
        title=TITLE if papers else OWN_TITLE,
        papers=papers,
    )


def _command(collection: Collection) -> str:
    own = set(collection.files) - set(shipped())
    words = "".join(f" {config_words(collection.files[name])}" for name in sorted(own))
    if collection.claims_from is not None:
        words += f" --claims {config_words(collection.claims_from)}"
    return f"python -m nos_repro report --all{words}{results_words(collection.root)}"


def study_card(found: FoundStudy, claims: Sequence[ClaimLine] = ()) -> Card:
    """``claims`` are those that the study decides."""
    study, rows = found.study, found.rows
    papers = is_the_papers(study.study)
    compared = [cell.verdict for cell in found.verdicts if cell.verdict != UNCOMPARED]
    best, words = _best(found)
    remarks = []
    if stale := sum(row.stale for row in rows):
        remarks.append(f"{_count(stale, 'row')} stale")
    if edges := sum(bool(row.edges) for row in rows):
        remarks.append(f"{_count(edges, 'row')} at the edge of a grid")
    for kind in ("diverged", "failed"):
        if lost := sum(record.status == kind for record in found.records):
            remarks.append(f"{_count(lost, 'trial')} {kind}")
    return Card(
        name=study.study,
        title=title_of(study.study),
        scale=study.scale,
        page=file_of(study.study, study.scale),
        source=versions(study.source),
        papers=papers,
        says=study.claim,
        verdicts=_verdicts(claims),
        done=found.complete,
        asked=len(rows),
        unit="rows complete",
        best=best,
        best_words=words,
        badges=counts(compared, VERDICTS),
        spark=study_spark(study, rows),
        hours=found.core_hours,
        remarks=remarks,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _best(found: FoundStudy) -> tuple[str, str]:
    """The best complete row by the first column of the test part, or else by the first column."""
    study, column = found.study, main_column(found.study)
    first = next(iter(ranked(study, found.rows)), None)
    if first is None or not column or not is_complete(found.rows[first]):
        return "no row is complete yet", ""
    number = found.rows[first].number(column)
    if number is None:
        return "no row is complete yet", ""
    return found.rows[first].name, f"{study.columns[column]} {show(number)}"


def _verdicts(claims: Sequence[ClaimLine]) -> list[Badge]:
    return counts((line.badge.word for line in claims), CLAIM_VERDICTS) or [Badge("no verdict")]


def search_card(history: History, claims: Sequence[ClaimLine] = ()) -> Card:
    """``claims`` are those that the search decides."""
    papers = is_the_papers(history.asked.search)
    asked, ranked = history.asked, history.best(1)
    best, words = "no rule yet", ""
    if ranked:
        best, words = ranked[0].rule, f"reward {ranked[0].reward:.4f}"
    beside = sum(found.seconds for _, found in history.named)
    threads = max(map(threads_of, history.sessions), default=1)
    return Card(
        name=asked.search,
        title=title_of(asked.search),
        scale=asked.scale,
        page=file_of(asked.search, asked.scale),
        source=versions(asked.source),
        papers=papers,
        says=asked.claim,
        verdicts=_verdicts(claims),
        done=history.tally.children if asked.children else history.tally.evaluated,
        asked=asked.children or asked.samples,
        unit="children" if asked.children else "rules",
        best=best,
        best_words=words,
        badges=[],
        spark=search_spark(history),
        hours=(history.seconds + beside) * threads / 3600,
        remarks=list(history.notes),
    )
