"""A scale of any name, one line of the file, goes through every verb that reads records."""

from pathlib import Path

import pytest
import yaml

from nos_repro.cli import main
from nos_repro.experiments.load import load_study
from nos_repro.report.claims.judge import judge_claim
from nos_repro.report.claims.kinds.rows import RowsTest
from nos_repro.report.claims.listed import Claim
from nos_repro.report.claims.results import Results
from nos_repro.tracking.dashboard import Dashboard
from tests.launch.study import TINY
from tests.report.records import accuracy, filled_store

SCALES = {"paper": {}, "medium": {"training": {"epochs": 2}}, "smoke": {"training": {"epochs": 1}}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "scales": SCALES}))
    for scale in ("medium", "smoke"):
        study = load_study(path, scale=scale)
        filled_store(study, tmp_path / "results", lambda trial: accuracy(40, 50 + trial.lr))
    return path


@pytest.mark.parametrize("verb", ["run", "report", "status", "verdicts", "why", "verify"])
def test_a_verb_takes_a_scale_of_any_name(verb: str, file: Path, capsys) -> None:
    what = f"{file}:PowerSign" if verb == "why" else str(file)
    words = [verb, what, "--scale", "medium", "--results", str(file.parent / "results")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert ("scale medium" in printed.out) != (verb == "verify")
    assert "reproduced" not in printed.out


def test_all_scales_of_a_file_are_shown_together(file: Path, capsys) -> None:
    pages, results = file.parent / "pages", str(file.parent / "results")
    words = ["report", "--all", str(file), "--results", results, "--html", str(pages)]
    assert main(words) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["tiny", "medium"],
        ["tiny", "smoke"],
    ]
    assert (pages / "tiny-medium.html").is_file()
    assert '<span class="scale">medium</span>' in (pages / "index.html").read_text()


def test_a_claim_is_judged_at_every_scale_but_smoke(file: Path) -> None:
    found = Results(file.parent / "results", files={"tiny": file})
    test = RowsTest("tiny", column="best_test", ours=["PowerSign"], theirs=["drops"])
    claim = Claim("better", "It is better.", (), test)
    assert [finding.scale for finding in judge_claim(claim, found)] == ["medium"]
    assert [finding.scale for finding in judge_claim(claim, found, "smoke")] == ["smoke"]


def test_a_dashboard_has_the_scale(file: Path) -> None:
    assert "tiny/medium" in Dashboard(load_study(file, scale="medium"), "", "").text()


def test_records_of_a_scale_that_the_file_no_longer_has_are_named(file: Path, capsys) -> None:
    file.write_text(yaml.safe_dump({**TINY, "scales": {"smoke": SCALES["smoke"]}}))
    results = str(file.parent / "results")
    assert main(["report", "--all", str(file), "--results", results]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("tiny  smoke")
    assert "tiny/medium: tiny.yaml has no scale 'medium'" in printed.err
    assert main(["report", str(file), "--scale", "medium", "--results", results]) == 2
    assert "unknown scale 'medium'\n  one of: smoke" in capsys.readouterr().err
