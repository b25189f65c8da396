"""A table as data, and its three forms: plain text, GitHub's Markdown, LaTeX with booktabs."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import unicodedata
from dataclasses import dataclass, field

from rich.cells import cell_len

WIDTH, LEAST_WIDTH = 120, 80
"""Columns of the text form where it is not printed to a terminal, and in a narrow terminal."""


def text_width() -> int:
    """The columns that text is wrapped to, as far as its words allow: the terminal's, from 80 to
    120; 120 in a file or a pipe."""
    if not sys.stdout.isatty():
        return WIDTH
    return max(LEAST_WIDTH, min(WIDTH, shutil.get_terminal_size().columns))


GLUE = "\N{NO-BREAK SPACE}"
"""Put in a cell's text where the text form must not break the line; shown as a space."""


@dataclass(frozen=True)
class Cell:
    """What a cell holds: words, whether it is the best of its column, footnote signs."""

    text: str
    best: bool = False
    signs: str = ""


@dataclass(frozen=True)
class Column:
    """A column's heading, and what the text form says instead where it has no room for it.

    ``of``: the column of a study that it shows, with ``paper``, by the paper's own numbers.
    """

    title: str
    short: str = ""
    of: str = ""
    paper: bool = False


@dataclass(frozen=True)
class ReportTable:
    """A finished table. ``heading`` and ``notes`` are lines above and below it; without columns,
    they are all there is.

    ``best`` says what the mark of a best cell means; "" where no cell has one.
    """

    heading: list[str]
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    best: str = ""

    def text(self) -> str:
        """Aligned plain text of `text_width` columns: names wrap, a number stays in one piece."""
        width = text_width()
        heading = [line for text in self.heading for line in _wrap(text, width)]
        notes = [line for text in self._notes("*") for line in _wrap(text, width)]
        return "\n".join([*heading, *self._text_grid(), *notes]).replace(GLUE, " ")

    def _text_grid(self) -> list[str]:
        if not self.columns:
            return []
        titles = [column.short or column.title for column in self.columns]
        body = [[_plain(cell) for cell in row] for row in self.rows]
        widths = _widths(titles, body)
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [line for row in body for line in self._text_row(row, widths)]
        return ["", *self._text_row(titles, widths), rule, *lines, rule]

    def _notes(self, mark: str) -> list[str]:
        return [*([f"{mark} {self.best}"] if self.best else []), *self.notes]

    def _text_row(self, words: list[str], widths: list[int]) -> list[str]:
        wrapped = [_wrap(text, width) for text, width in zip(words, widths, strict=True)]
        lines = []
        for n in range(max(map(len, wrapped))):
            parts = [(cell[n] if n < len(cell) else "") for cell in wrapped]
            lines.append("  ".join(map(_pad, parts, widths)).rstrip())
        return lines

    def markdown(self) -> str:
        """A GitHub table; whatever the names contain, they stay text."""
        heading = [escape_markdown(line) for line in self.heading]
        titles = [escape_markdown(column.title) for column in self.columns]
        ruler = ["---" for _ in titles]
        body = [[_markdown_cell(cell) for cell in row] for row in self.rows]
        grid = [f"| {' | '.join(cells)} |" for cells in (titles, ruler, *body)]
        grid = [*grid, ""] if titles else []
        notes = [f"- {escape_markdown(note)}" for note in self._notes("Bold:")]
        title = f"**{heading[0]}**"
        return "\n".join(
            [title, *("\n" + line for line in heading[1:]), "", *grid, *notes]
        ).rstrip()

    def latex(self) -> str:
        r"""A `tabular` for `\usepackage{booktabs}`, heading above and notes below it."""
        heading = [escape_latex(line) + r"\par" for line in self.heading]
        notes = [escape_latex(line) + r"\par" for line in self._notes("Bold:")]
        return "\n".join([*heading, *self._latex_grid(), *notes])

    def _latex_grid(self) -> list[str]:
        if not self.columns:
            return []
        lines = [r"\begin{tabular}{" + "l" * len(self.columns) + "}", r"\toprule"]
        lines += [" & ".join(escape_latex(column.title) for column in self.columns) + r" \\"]
        lines += [r"\midrule"]
        lines += [" & ".join(map(_latex_cell, row)) + r" \\" for row in self.rows]
        return [*lines, r"\bottomrule", r"\end{tabular}\par"]


def plain(text: str) -> str:
    """``text`` for a terminal: on one line, and without what a terminal would obey."""
    return "".join(" " if unicodedata.category(sign)[0] == "C" else sign for sign in text)


def _plain(cell: Cell) -> str:
    return cell.text + (f"{GLUE}*" if cell.best else "") + (cell.signs and f"{GLUE}{cell.signs}")


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    signs = f" {escape_markdown(cell.signs)}" if cell.signs else ""
    return (f"**{text}**" if cell.best else text) + signs


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    signs = escape_latex(f" {cell.signs}") if cell.signs else ""
    return (rf"\textbf{{{text}}}" if cell.best else text) + signs


def _widths(titles: list[str], body: list[list[str]]) -> list[int]:
    """The columns' own widths; the widest give way, down to their longest word, to keep the
    text's."""
    columns = [tuple(map(plain, column)) for column in zip(titles, *body, strict=True)]
    widths = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for text in c for word in _words(text)) for c in columns]
    most = text_width()
    while sum(widths) + 2 * (len(widths) - 1) > most:
        wide = [n for n in range(len(widths)) if widths[n] > least[n]]
        if not wide:
            break
        widths[max(wide, key=lambda n: widths[n])] -= 1
    return widths


def _words(text: str) -> list[str]:
    return text.split(" ")


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(plain(text), width, break_on_hyphens=False, break_long_words=False) or [""]


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def escape_markdown(text: str) -> str:
    """``text`` as it reads, on one line, in a cell of a GitHub table or outside one."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(plain(text).split()))


# fmt: off
LATEX = {
    "\\": r"\textbackslash{}",  "^": r"\textasciicircum{}",  "~": r"\textasciitilde{}",
    "{":  r"\{",                "}": r"\}",                  "$": r"\$",
    "&":  r"\&",                "#": r"\#",                  "%": r"\%",
    "_":  r"\_",                "|": r"\textbar{}",          "<": r"\textless{}",
    ">":  r"\textgreater{}",    "`": r"\textasciigrave{}",   '"': "''",
    "*":  "{*}",    # a row of a tabular that begins with * or [ would be read as part of its \\
    "[":  "{[}",    "]":  "{]}",
    "±":  r"$\pm$",  "†": r"\dag{}",  "‡": r"\ddag{}",  "°": r"$^\circ$",
}
# fmt: on


def escape_latex(text: str) -> str:
    """``text`` as it reads, for LaTeX's running text and cells."""
    escaped = "".join(LATEX.get(sign, sign) for sign in " ".join(plain(text).split()))
    return escaped.replace("--", "-{}-")
