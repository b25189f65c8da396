"""The page of a study, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.collection import FoundStudy
from nos_repro.report.documents.study import study_document
from nos_repro.report.figures.base import StudyFigure, drawn, figure_of
from nos_repro.report.pages.charts import Chart, Line
from nos_repro.report.pages.curve_chart import curve_chart, row_lines
from nos_repro.report.pages.page import ClaimLine, OwnPage, commands
from nos_repro.report.pages.provenance import Behind, behind_json, behind_rows
from nos_repro.report.pages.ranking import BEST, FEW, ranked
from nos_repro.report.pages.static_figure import study_picture
from nos_repro.report.pages.summary import summary_table
from nos_repro.report.pages.sweep_chart import sweep_chart
from nos_repro.report.pages.tables import Badge, PageTable, counts, page_table
from nos_repro.report.pages.target_chart import target_parts
from nos_repro.report.paths import by_name, file_of
from nos_repro.report.provenance import origin
from nos_repro.report.study.duels import duel_line
from nos_repro.report.study.table import study_table
from nos_repro.report.study.verdict import VERDICTS
from nos_repro.report.words import is_the_papers, title_of, versions


@dataclass(frozen=True, kw_only=True)
class StudyPage(OwnPage):
    """``state``: what is missing, stale or failed. ``order``: the rows' keys, best first."""

    template = "study.html"
    badges: list[Badge]
    state: list[str]
    table: PageTable
    duels: list[str]
    """In a line each."""
    behind: list[Behind]
    order: list[str]
    drawn: list[str]
    """The keys of the rows in the study's own figure; empty where it shows all of them."""
    figure_heading: str
    """The heading of the figure's own section; "" where the picture shows what the curves show."""
    figure: Chart | None
    curves: Chart | None
    sweeps: Chart | None
    targets: Chart | None
    profile: Chart | None
    times: PageTable | None

    @property
    def charts(self) -> list[Chart]:
        charts = (self.figure, self.curves, self.sweeps, self.targets, self.profile)
        return [chart for chart in charts if chart is not None]

    @property
    def lines(self) -> list[Line]:
        return sorted(super().lines, key=lambda line: self.order.index(line.key))

    @property
    def choices(self) -> list[tuple[str, list[str]]]:
        best = (f"the best {BEST}", self.order[:BEST])
        own = ("those of the paper's figure" if self.papers else "those of the figure", self.drawn)
        return [*([best] if len(self.order) > FEW else []), *([own] if self.drawn else [])]

    def behind_json(self) -> dict[str, Any]:
        return behind_json(self.behind)


def study_page(
    found: FoundStudy, words: str, *, claims: Sequence[ClaimLine] = (), index: str = ""
) -> StudyPage:
    """``words`` name the study on a command line."""
    study, rows, store = found.study, found.rows, found.store
    papers = is_the_papers(study.study)
    table = study_table(study, rows)
    lines, order = row_lines(study, rows), ranked(study, rows)
    figure, shown = figure_of(study), drawn(study, rows)
    timed = target_parts(rows, lines, order)
    results, duels = store.root.parent.parent, found.duels
    problems = [by_name(problem, results) for problem in store.problems]
    return StudyPage(
        document=study_document(study, rows, found.verdicts, problems, table, duels),
        name=f"{study.study}-{study.scale}",
        title=title_of(study.study),
        scale=study.scale,
        source=versions(study.source),
        papers=papers,
        says=study.claim,
        heading=list(_heading(study, table.heading, papers=papers)),
        badges=counts((cell.verdict for cell in found.verdicts), VERDICTS),
        state=_state(study, rows),
        problems=problems,
        table=summary_table(study, table, rows, order, found.verdicts),
        duels=[duel_line(each) for each in duels],
        behind=behind_rows(study, rows, store, found.verdicts),
        order=[str(n) for n in order],
        drawn=[line.key for line, row in zip(lines, rows, strict=True) if row in shown]
        if len(shown) < len(rows)
        else [],
        picture=study_picture(study, rows, store.root),
        figure_heading=figure.heading if figure is not None else "",
        figure=_figure_chart(figure, shown, lines),
        curves=curve_chart(study, rows, lines),
        sweeps=sweep_chart(study, rows, lines),
        targets=timed[0] if timed is not None else None,
        profile=timed[1] if timed is not None else None,
        times=page_table(timed[2]) if timed is not None else None,
        origin=origin(study, rows),
        commands=commands("run", words, results, file_of(study.study, study.scale)),
        claims=list(claims),
        index=index,
    )


def _figure_chart(
    figure: StudyFigure | None, rows: Sequence[Outcome], lines: Sequence[Line]
) -> Chart | None:
    """The figure's interactive form, if it has one; ``lines`` are those of all rows."""
    if figure is None:
        return None
    colours = {line.name: line for line in lines}
    chart = figure.chart(rows, [colours[row.name] for row in rows])
    return dataclasses.replace(chart, name="figure") if chart is not None else None


def _heading(study: Study, lines: Sequence[str], *, papers: bool) -> Iterator[str]:
    """What the table's heading says besides what the page says elsewhere."""
    for line in lines[1:]:
        if line != f"Claim: {study.claim}":
            yield line if papers else line.replace("Protocol, the paper's:", "Protocol:")


def _state(study: Study, rows: Sequence[Outcome]) -> list[str]:
    """What keeps the table from being whole, in words; empty where nothing does."""
    lines = []
    if missing := sum(row.missing for row in rows):
        open_rows = sum(row.missing > 0 for row in rows)
        lines.append(f"{missing} trials of {open_rows} rows have not ended: `run` trains them")
    if failed := sum(row.failed for row in rows):
        lines.append(f"{failed} trials failed: `run --retry` tries them again")
    if stale := [row.name for row in rows if row.stale]:
        lines.append(
            f"stale, made by code that has changed since (`verify` finds out): {'; '.join(stale)}"
        )
    return lines
