"""The three forms of a table: whatever is in its cells is text, and stays unchanged."""

import itertools
import random
import re
import string
from html import unescape

import pytest
from markdown_it import MarkdownIt

from nos_repro.report.layout import (
    GLUE,
    LATEX,
    WIDTH,
    Cell,
    Column,
    ReportTable,
    escape_latex,
    escape_markdown,
)

NASTY = [
    "drop(m, 0.3) * exp(1e-3 * w)",
    "sign(g)*sign(m) | g_hat ^ 2 \\ 50% of $5 & #1 {x} ~",
    "*starred* _under_ `code` <b>bold</b> [link](url) **x** ~~no~~ &amp; \\|",
    "[an option] after a row's end",
    "* a star after a row's end",
    "a -- b --- c",
]
FUZZ = [
    "".join(random.Random(seed).choices(string.punctuation + " ab", k=30)) for seed in range(200)
]


def table_of(names: list[str]) -> ReportTable:
    rows = [
        [Cell(name, best=n == 0, signs="†"), Cell("1.00 ± 0.10 (3)")]
        for n, name in enumerate(names)
    ]
    return ReportTable(
        ["title | one"], [Column("row"), Column("Best *Test*")], rows, ["a note | two"], "best"
    )


def html_text(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


@pytest.mark.parametrize("text", NASTY + FUZZ)
def test_a_markdown_reader_shows_the_name_as_it_is(text: str) -> None:
    shown = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .renderInline(escape_markdown(text))
    )
    assert html_text(shown) == " ".join(text.split())
    assert "<" not in shown


def test_a_markdown_table_has_a_cell_for_each_cell() -> None:
    html = MarkdownIt("commonmark").enable("table").render(table_of(NASTY).markdown())
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    assert [len(row) for row in cells] == [2] * (1 + len(NASTY))
    assert [html_text(row[0]).removesuffix(" †") for row in cells[1:]] == NASTY
    assert html.count("<strong>") == 2
    assert "<li>a note | two</li>" in html


def test_latex_has_no_special_character_left() -> None:
    everything = string.punctuation
    known = sorted(LATEX.values(), key=len, reverse=True)
    left = re.sub("|".join(map(re.escape, known)), "", escape_latex(everything))
    assert not set(left) & set(r"\{}$&#^_%~<>|\"")


@pytest.mark.parametrize("text", NASTY + FUZZ)
def test_latex_escapes_undo_to_the_name(text: str) -> None:
    back = {value: key for key, value in LATEX.items() if key != '"'} | {"-{}-": "--"}
    pattern = "|".join(re.escape(value) for value in sorted(back, key=len, reverse=True))
    escaped = escape_latex(text.replace('"', ""))
    undone = re.sub(pattern, lambda found: back[found[0]], escaped).replace("-{}-", "--")
    assert undone == " ".join(text.replace('"', "").split())


def test_no_row_of_a_tabular_begins_with_what_its_line_end_would_swallow() -> None:
    lines = table_of(["[2mm] x", "*x"]).latex().splitlines()
    for end, begin in itertools.pairwise(lines):
        if end.endswith(r"\\"):
            assert not begin.lstrip().startswith(("[", "*"))


def test_latex_braces_and_columns_are_balanced() -> None:
    latex = table_of(NASTY).latex()
    bare = latex.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [1] * (1 + len(NASTY))


def test_text_is_aligned_and_keeps_to_its_width() -> None:
    columns = [Column("row"), *(Column(f"Metric {n}") for n in range(6))]
    rows = [
        [
            Cell("(exp(sign(g) * sign(m)) + clip(g, 1e-4)) * g"),
            *[Cell("1.23\N{NO-BREAK SPACE}(1)")] * 6,
        ]
    ] * 3
    lines = ReportTable(["t"], columns, rows).text().splitlines()
    assert max(map(len, lines)) <= WIDTH
    starts = {line.index("1.23") for line in lines if "1.23" in line}
    assert len(starts) == 1
    assert all("1.23 (1)" in line for line in lines if "1.23" in line)


def test_wide_signs_take_two_columns() -> None:
    rows = [[Cell("行"), Cell("a")], [Cell("xy"), Cell("b")]]
    lines = ReportTable(["t"], [Column("r"), Column("c")], rows).text().splitlines()
    assert lines[-3:-1] == ["行  a", "xy  b"]


@pytest.mark.parametrize(("columns", "width"), [(80, 80), (96, 96), (60, 80), (300, 120)])
def test_text_fits_the_terminal_down_to_80_columns(
    columns: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ReportTable(
        ["A heading that is so long that it has to be wrapped wherever it is printed. " * 3],
        [Column("row"), *(Column(f"Best Test {n} (small)") for n in range(4))],
        [[Cell("PowerSign-cd (noisy linear cosine)"), *[Cell(f"95.40{GLUE}±{GLUE}0.12")] * 4]],
    )
    assert width_of(table) > 96, "a pipe gets the whole width"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert width - 12 < width_of(table) <= width
    assert "95.40 ± 0.12" in table.text()


def width_of(table: ReportTable) -> int:
    return max(map(len, table.text().splitlines()))
