"""A table as a page shows it, and its HTML: the one component of all pages.

Every table sorts at a press on a heading, can be filtered, and is downloaded as CSV and JSON by the
page's script (`assets/tables.js`); every row and cell has an id, so that a link can lead to it.
Without scripts it is a plain table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from nos_repro.report.layout import GLUE, ReportTable
from nos_repro.report.words import versions

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
    "no verdict":             ("nothing", "○"),
}
LONG = 20
"""Letters of a word that a narrow screen has no room for."""
PLURALS = {"holds": "hold", "does not hold": "do not hold", "differs": "differ"}
# fmt: on


@dataclass(frozen=True)
class Badge:
    """A verdict in a word, a colour and a sign; ``count`` of them; why, where it is known."""

    word: str
    count: int | None = None
    why: str = ""

    @property
    def text(self) -> str:
        """`3 hold`."""
        if self.count is None:
            return self.word
        word = self.word if self.count == 1 else PLURALS.get(self.word, self.word)
        return f"{self.count:,} {word}"

    @property
    def kind(self) -> str:
        return KINDS[self.word][0]

    @property
    def sign(self) -> str:
        return KINDS[self.word][1]


@dataclass(frozen=True)
class PageCell:
    """``opens``: the number of the row whose provenance a press on the cell shows."""

    text: str
    best: bool = False
    signs: str = ""
    badge: Badge | None = None
    opens: int | None = None
    numeric: bool = False


@dataclass(frozen=True)
class PageTable:
    """``sorted_by``: the column that the rows are sorted by, largest first or not."""

    heading: list[str]
    titles: list[str]
    rows: list[list[PageCell]]
    notes: list[str] = field(default_factory=list)
    best: str = ""
    sorted_by: tuple[int, bool] | None = None


def page_table(table: ReportTable, sorted_by: tuple[int, bool] | None = None) -> PageTable:
    """A table as it is, without badges."""
    rows = [
        [PageCell(cell.text, cell.best, cell.signs, numeric=is_number(cell.text)) for cell in row]
        for row in table.rows
    ]
    titles = [
        column.title or ("verdict" if n else "what") for n, column in enumerate(table.columns)
    ]
    notes = list(map(versions, table.notes))
    return PageTable(table.heading, titles, rows, notes, table.best, sorted_by)


def table_html(table: PageTable, label: str, name: str) -> Markup:
    """The table, with its notes. ``name`` begins its ids and its downloads' names."""
    return Markup("").join(_parts(table, label, slug(name)))


def _parts(table: PageTable, label: str, name: str) -> Iterator[Markup]:
    # Built by hand, not by a template: that takes a twentieth of the time in large tables.
    if table.titles:
        yield Markup('<div class="table" data-name="{}">').format(name)
        yield Markup('<div class="wide" tabindex="0" role="region" aria-label="{}"><table>'
                     "<thead><tr>").format(label)  # fmt: skip
        yield from (_head(table, n, title) for n, title in enumerate(table.titles))
        yield Markup("</tr></thead><tbody>\n")
        yield from _body(table, name)
        yield Markup("</tbody></table></div></div>\n")
    notes = [f"★ {table.best}"] if table.best else []
    if notes := [*notes, *table.notes]:
        lines = Markup("").join(Markup("<li>{}</li>").format(with_code(note)) for note in notes)
        yield Markup('<ul class="notes">{}</ul>\n').format(lines)


def _head(table: PageTable, number: int, title: str) -> Markup:
    if table.sorted_by is None or table.sorted_by[0] != number:
        return Markup('<th scope="col">{}</th>').format(title)
    way = "descending" if table.sorted_by[1] else "ascending"
    return Markup('<th scope="col" aria-sort="{}">{}</th>').format(way, title)


def _body(table: PageTable, name: str) -> Iterator[Markup]:
    columns = unique(map(slug, table.titles))
    rows = unique(slug(row[0].text) for row in table.rows)
    for row, own in zip(table.rows, rows, strict=True):
        id_ = f"{name}.{own}"
        yield Markup('<tr id="{}"><th scope="row">{}</th>').format(id_, cell_html(row[0]))
        for cell, column in zip(row[1:], columns[1:], strict=True):
            whole = cell.numeric or (len(cell.text) <= LONG and cell.badge is None)
            kind = Markup(' class="number"') if whole else ""
            yield Markup('<td id="{}.{}"{}>{}</td>').format(id_, column, kind, cell_html(cell))
        yield Markup("</tr>\n")


def cell_html(cell: PageCell) -> Markup:
    """The value, then its signs and verdict."""
    tag = "b" if cell.best else "span"
    opens = "" if cell.opens is None or not cell.text else f' data-opens="{cell.opens}"'
    html = f"<{tag}{opens}>{_unbroken(cell.text)}</{tag}>"
    if cell.best:
        html += '&nbsp;<span class="star" title="the best">★</span>'
    if cell.signs:
        html += f"&nbsp;{escape(cell.signs)}"
    if cell.badge is not None:
        html += f" {badge_html(cell.badge)}"
    return Markup(html)


def _unbroken(text: str) -> str:
    """The text, escaped; a browser may break its lines at spaces, but not after `1e-`."""
    if "-" not in text or " " not in text:
        return escape(text)
    words = [
        f'<span class="word">{escape(word)}</span>' if "-" in word and 1 < len(word) <= LONG
        else escape(word)
        for word in text.split(" ")
    ]  # fmt: skip
    return " ".join(words)


def badge_html(badge: Badge) -> Markup:
    title = Markup(' title="{}"').format(badge.why) if badge.why else ""
    return Markup('<span class="badge {}"{}><span aria-hidden="true">{}</span> {}</span>').format(
        badge.kind, title, badge.sign, badge.text
    )


def with_code(text: str) -> Markup:
    """The text with commands such as `verify` set as code."""
    return Markup(re.sub(r"`([a-z][\w .=-]*)`", r"<code>\1</code>", str(escape(text))))


def slug(text: str) -> str:
    """``text`` in an address: `powersign-cosine`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "-"


def unique(names: Iterable[str]) -> list[str]:
    """The names, each with a number after it where it comes again."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found


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
