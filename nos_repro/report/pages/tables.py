"""A table as a page shows it: cells with badges, and numbers that open their provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nos_repro.report.layout import GLUE, ReportTable

# fmt: off
KINDS = {
    # verdict: the badge's class, and a sign that tells it apart without its colour
    "reproduced":             ("good",    "✓"),
    "within tolerance":       ("near",    "≈"),
    "differs":                ("bad",     "✗"),
    "inconclusive":           ("unsure",  "?"),
    "diverged":               ("broken",  "↗"),
    "not run":                ("nothing", "○"),
    "not comparable (scale)": ("nothing", "⊘"),
    "holds":                  ("good",    "✓"),
    "does not hold":          ("bad",     "✗"),
    "undecided":              ("unsure",  "?"),
    "cannot be tested here":  ("nothing", "-"),
    "met":                    ("good",    "✓"),
    "missed":                 ("bad",     "✗"),
}
# fmt: on


@dataclass(frozen=True)
class Badge:
    """A verdict in a word, a colour and a sign; ``count`` of them; why, where it is known."""

    word: str
    count: int | None = None
    why: str = ""

    @property
    def kind(self) -> str:
        return KINDS[self.word][0]

    @property
    def sign(self) -> str:
        return KINDS[self.word][1]


@dataclass(frozen=True)
class PageCell:
    """``opens``: the id of what a click on the cell shows."""

    text: str
    best: bool = False
    signs: str = ""
    badge: Badge | None = None
    opens: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class PageTable:
    heading: list[str]
    titles: list[str]
    rows: list[list[PageCell]]
    notes: list[str] = field(default_factory=list)
    best: str = ""


def page_table(table: ReportTable) -> PageTable:
    """A table as it is, without badges."""
    rows = [
        [PageCell(cell.text, cell.best, cell.signs, numeric=is_number(cell.text)) for cell in row]
        for row in table.rows
    ]
    titles = [column.title for column in table.columns]
    return PageTable(table.heading, titles, rows, table.notes, table.best)


def is_number(text: str) -> bool:
    """Whether a cell begins with a number, and must not be wrapped."""
    first = text.replace(GLUE, " ").split(" ")[0].strip("[(+-,)]%").replace(",", "")
    try:
        float(first)
    except ValueError:
        return False
    return len(text) < 40


def counts(verdicts: Iterable[str], order: Sequence[str]) -> list[Badge]:
    """One badge per kind, with how many there are."""
    found = Counter(verdicts)
    return [Badge(kind, found[kind]) for kind in order if found[kind]]
