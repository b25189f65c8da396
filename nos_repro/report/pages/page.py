"""What pages have in common: a template, charts, and of one study or search what frames it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from nos_repro.report.pages.charts import Chart
from nos_repro.report.pages.claim_lines import ClaimLine
from nos_repro.report.pages.static_figure import Picture
from nos_repro.report.paths import results_words


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that a page says, as plain data, and the ``template`` that says it."""

    template: ClassVar[str]

    @property
    def charts(self) -> list[Chart]:
        return []


@dataclass(frozen=True, kw_only=True)
class OwnPage(Page):
    """The page of one study or search."""

    title: str
    scale: str
    heading: list[str]
    problems: list[str]
    picture: Picture | None
    origin: list[str]
    commands: list[str]
    claims: list[ClaimLine] = field(default_factory=list)
    index: str = ""
    """Where the index lies; "" for a page of its own."""


def commands(verb: str, words: str, results: Path, file: str) -> list[str]:
    """What trains it and makes its page; ``words`` name the study or search on a command line."""
    name = words + results_words(results)
    return [
        f"python -m nos_repro {verb} {name}",
        f"python -m nos_repro report {name} --html {file}",
    ]
