"""The page of a search, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nos_repro.report.documents.search import search_document
from nos_repro.report.layout import ReportTable
from nos_repro.report.pages.charts import Chart
from nos_repro.report.pages.page import ClaimLine, OwnPage, commands
from nos_repro.report.pages.search_chart import search_chart
from nos_repro.report.pages.static_figure import search_picture
from nos_repro.report.pages.tables import PageTable, page_table, slug, unique
from nos_repro.report.paths import by_name, file_of
from nos_repro.report.search.files import search_tables
from nos_repro.report.search.history import History
from nos_repro.report.search.made_by import stale_lines
from nos_repro.report.search.protocol import origin_lines
from nos_repro.report.words import is_the_papers, title_of, versions

SHORT = 30
"""Letters of a link at the top of the page."""


@dataclass(frozen=True, kw_only=True)
class SearchPage(OwnPage):
    """``course``: the reward against the samples."""

    template = "search.html"
    course: Chart | None
    course_word: str = "Reward"
    """What a link calls it."""
    tables: list[PageTable]
    """How it went, the best rules, the confirmation, the refusals, the sub-expressions."""

    @property
    def sections(self) -> list[tuple[str, str]]:
        """An id and a word or two for each of the tables."""
        titles = [table.heading[0].partition(":")[0] for table in self.tables]
        return list(zip(unique(map(slug, titles)), titles, strict=True))

    @property
    def jumps(self) -> list[tuple[str, str]]:
        """The sections that have a short name."""
        return [(id_, words) for id_, words in self.sections if len(words) <= SHORT]

    @property
    def charts(self) -> list[Chart]:
        return [self.course] if self.course is not None else []


def search_page(
    history: History, words: str, *, claims: Sequence[ClaimLine] = (), index: str = ""
) -> SearchPage:
    """``words`` name the search on a command line."""
    asked = history.asked
    papers = is_the_papers(asked.search)
    tables = search_tables(history)
    first, *others = tables
    course = page_table(first)
    results = history.folder.parent.parent
    problems = [by_name(each, results) for each in history.problems]
    return SearchPage(
        document=search_document(history, problems, tables),
        name=f"{asked.search}-{asked.scale}",
        title=title_of(asked.search),
        scale=asked.scale,
        source=versions(asked.source),
        papers=papers,
        says=asked.claim,
        heading=[line for line in first.heading[1:] if line != f"Claim: {asked.claim}"],
        problems=problems,
        course=search_chart(history),
        picture=search_picture(history),
        tables=[
            PageTable(["How it went"], course.titles, course.rows, course.notes),
            *(page_table(table, _sorted_by(table, history)) for table in others),
        ],
        origin=[*origin_lines(history), *stale_lines(history)],
        commands=commands("search", words, results, file_of(asked.search, asked.scale)),
        claims=list(claims),
        index=index,
    )


def _sorted_by(table: ReportTable, history: History) -> tuple[int, bool] | None:
    """The hall of fame is in the order of its rewards, unless there was a race."""
    if history.hall.order:
        return None
    titles = [column.title for column in table.columns]
    return (titles.index("reward"), True) if "reward" in titles else None
