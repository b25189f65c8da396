"""A study of one's own: the least that a file must say, and nothing of the paper over it."""

from pathlib import Path

import pytest

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.load import load_study
from nos_repro.report.study.protocol import is_the_papers

LEAST = """
study: mine
task: {name: rosenbrock}
sweep: {lr: [0.01]}
rows:
  Adam: {optimizer: adam}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(LEAST)
    return path


def test_the_least_study_runs_and_reports(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(mine), "--workers", "0"]) == 0
    for words in (["report", str(mine)], ["status", str(mine)], ["why", f"{mine}:Adam"],
                  ["verdicts", str(mine)], ["dashboard", str(mine)],
                  ["report", "--all", str(mine), "--html", "pages"]):  # fmt: skip
        assert main(words) == 0
    printed = capsys.readouterr().out
    assert "mine, scale default" in printed
    assert "the paper" not in printed.lower()
    page = Path("pages/mine-default.html").read_text()
    assert "Neural Optimizer Search, reproduced" not in page
    assert "the paper's protocol" not in page
    assert "reproduced" not in Path("pages/index.html").read_text().partition("</h1>")[0]


def test_a_study_that_names_no_source_is_never_the_papers(mine: Path) -> None:
    mine.write_text(LEAST + "scales: {paper: {}}\n")
    assert not is_the_papers(load_study(mine))
    mine.write_text(LEAST + "scales: {paper: {}}\nsource: my paper, Table 1\n")
    assert is_the_papers(load_study(mine))


def test_without_a_scale_called_paper_the_first_is_meant(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine.write_text(LEAST + "scales: {long: {}, short: {}}\n")
    assert main(["report", str(mine)]) == 0
    assert "mine, scale long" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("clam: x", "clam: unknown key 'clam'\n  did you mean 'claim'"),
        ("columns: {}", "columns: a table needs one"),
        ("figure: {metric: foo}", "figure.metric 'foo'"),
        ("figure: [a]", "figure: expected a mapping"),
    ],
)
def test_a_mistake_is_named_in_a_users_words(mine: Path, more: str, problem: str) -> None:
    from nos_repro.report.figures.base import figure_of

    mine.write_text(f"{LEAST}{more}\n")
    with pytest.raises(ConfigError) as caught:
        load_study(mine, scale="default", check=figure_of)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("optimizer: 1", "rows.Adam.optimizer: expected a name, got 1"),
        ("optimizer: null", "rows.Adam.optimizer: expected text, got null"),
        ("optimizer: adam, paper: {best_val: .nan}", "expected a finite number"),
        ("optimizer: adam, paper: {best_val: [1]}", "expected a number, got [1]"),
    ],
)
def test_a_mistake_in_a_row_is_named_too(mine: Path, row: str, problem: str) -> None:
    mine.write_text(LEAST.replace("optimizer: adam", row))
    with pytest.raises(ConfigError) as caught:
        load_study(mine, scale="default")
    assert problem in str(caught.value)


def test_a_study_does_not_share_the_results_of_its_base(mine: Path) -> None:
    mine.write_text("base: table2.yaml\nstudy: table2\n")
    with pytest.raises(ConfigError, match="table2 is the base's own name"):
        load_study(mine)


@pytest.mark.parametrize("name", ["x" * 300, "é" * 60, "a/b", "..", ""])
def test_a_name_is_that_of_a_folder(mine: Path, name: str) -> None:
    mine.write_text(LEAST.replace("mine", repr(name)))
    with pytest.raises(ConfigError, match="usable as a folder"):
        load_study(mine, scale="default")
