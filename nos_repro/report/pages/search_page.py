"""The page of a search, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nos_repro.report.pages.charts import Chart
from nos_repro.report.pages.claim_lines import ClaimLine
from nos_repro.report.pages.search_chart import search_chart
from nos_repro.report.pages.static_figure import Picture, search_picture
from nos_repro.report.pages.tables import PageTable, page_table
from nos_repro.report.places import by_name, results_words
from nos_repro.report.search_history import History
from nos_repro.report.search_protocol import origin_lines
from nos_repro.report.search_report import search_tables


@dataclass(frozen=True)
class SearchPage:
    """Everything that a search's page says."""

    title: str
    scale: str
    heading: list[str]
    problems: list[str]
    course: Chart | None
    picture: Picture | None
    tables: list[PageTable]
    """How it went, the best rules, the confirmation, the refusals, the sub-expressions."""
    origin: list[str]
    commands: list[str]
    claims: list[ClaimLine] = field(default_factory=list)
    index: str = ""

    @property
    def charts(self) -> list[Chart]:
        return [self.course] if self.course is not None else []


def search_page(
    history: History, *, words: str = "", claims: Sequence[ClaimLine] = (), index: str = ""
) -> SearchPage:
    """``words`` are what a command needs beside the search's file to name it again."""
    asked = history.asked
    first, *others = search_tables(history)
    course = page_table(first)
    results = history.folder.parent.parent
    name = words or f"configs/{asked.search}.yaml --scale {asked.scale}"
    name += results_words(results)
    return SearchPage(
        title=asked.search,
        scale=asked.scale,
        heading=course.heading,
        problems=[by_name(each, results) for each in history.problems],
        course=search_chart(history),
        picture=search_picture(history),
        tables=[
            PageTable(["How it went"], course.titles, course.rows, course.notes),
            *map(page_table, others),
        ],
        origin=origin_lines(history),
        commands=[
            f"python -m nos_repro search {name}",
            f"python -m nos_repro report {name} --html {asked.search}-{asked.scale}.html",
        ],
        claims=list(claims),
        index=index,
    )
