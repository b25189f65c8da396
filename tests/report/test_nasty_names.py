"""Names with HTML, LaTeX, shell and terminal characters: text, everywhere, and nothing else."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest

from nos_repro.experiments.schema import Row, Selection, Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.trial import Trial
from nos_repro.report.layout import LATEX
from nos_repro.report.study.files import figures, tables
from nos_repro.report.study.status import study_status
from nos_repro.report.study.table import study_table
from nos_repro.report.study.verdict import judge_study
from nos_repro.report.study.verdict_table import verdict_table
from nos_repro.report.study.why import explain, why_text
from tests.experiments.helpers import digits_study
from tests.report.records import accuracy, filled_store

NASTY = [
    "<script>alert(1)</script>",
    "a & b \"quoted\" 'single'",
    "$x$ $\\frac{1}{0$ _{^ 50% | pipe",
    "$(touch pwned) `touch pwned`; touch pwned #",
    "\\input{/etc/passwd} \\write18{touch pwned} ~ {",
    "two\nlines\r\tand a tab",
    "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "right \u202egnirts\u202c \u200fleft",
    "--results=/ -rf *",
    "\x00nul",
]


def nasty_study() -> Study:
    rows = {
        name: Row("sgd", seed=10 * n, note=name, paper={"best_test": 90.0})
        for n, name in enumerate(NASTY)
    }
    study = digits_study(rows, selection=Selection(repeats=1), figure={"kind": "curves"})
    said = " ".join(NASTY)
    return dataclasses.replace(
        study, source=said, claim=said, note=said, columns={"best_test": said}
    )


def nasty_ending(trial: Trial) -> dict[str, object]:
    """Some of the trials fail, with a reason as bad as the names."""
    if trial.lr == 0.01:
        return {"status": "failed", "metrics": [], "reason": " ".join(NASTY)}
    return accuracy(80.0 + trial.seed / 20, 81.0)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All that the verbs say of the study, by what says it."""
    study, folder = nasty_study(), tmp_path_factory.mktemp("nasty")
    store = filled_store(study, folder, nasty_ending)
    rows = outcomes(study, store)
    files = {name: data.decode() for name, data in tables(study, rows).items()}
    verdicts = verdict_table(study, judge_study(study, rows))
    return {
        **files,
        "text": study_table(study, rows).text(),
        "verdicts.txt": verdicts.text(),
        "verdicts.md": verdicts.markdown(),
        "verdicts.tex": verdicts.latex(),
        "status": study_status(study, store),
        **{f"why {n}": why_text(explain(study, row, store)) for n, row in enumerate(rows)},
        "figure.svg": figures(study, rows)["figure.svg"].decode(),
    }


def test_nothing_that_is_said_can_command_a_terminal_or_turn_the_line_around(
    printed: dict[str, str],
) -> None:
    for what, text in printed.items():
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e]", text), what


def test_a_name_takes_one_line_of_the_status(printed: dict[str, str]) -> None:
    begun = [line for line in printed["status"].splitlines() if re.search(r"  2/2 +1/1 ", line)]
    assert len(begun) == len(NASTY)


@pytest.mark.parametrize("what", ["table.md", "verdicts.md"])
def test_markdown_has_no_bare_special_left(what: str, printed: dict[str, str]) -> None:
    assert not re.search(r"(?<!\\)[<`$&]", printed[what])


@pytest.mark.parametrize("what", ["table.tex", "verdicts.tex"])
def test_latex_obeys_no_name(what: str, printed: dict[str, str]) -> None:
    ours = {"begin", "end", "toprule", "midrule", "bottomrule", "par", "textbf"}
    escapes = "|".join(map(re.escape, sorted(LATEX.values(), key=len, reverse=True)))
    left = re.sub(escapes, "", printed[what])
    assert set(re.findall(r"\\([a-z]+)", left)) <= ours
    assert not re.search(r"[$#%_^~]", left)


def test_a_figures_words_are_neither_formula_nor_markup(printed: dict[str, str]) -> None:
    drawing = ET.fromstring(printed["figure.svg"])
    words = " ".join(
        "".join(text.itertext()) for text in drawing.iter() if text.tag.endswith("text")
    )
    assert "<script>alert(1)</script>" in words
    assert "$x$" in words
    assert "\\input{/etc/passwd}" in words
    assert not [tag for tag in drawing.iter() if tag.tag.endswith("script")]
