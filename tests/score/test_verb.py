"""The verb `score`, `evaluate(path)`, and a program that proposes a hundred candidates."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nos_repro.cli import main
from nos_repro.errors import LaunchError
from nos_repro.report.documents.base import schema
from nos_repro.score.fault import KINDS
from tests.conftest import ROOT
from tests.score.helpers import plain, write
from tests.test_docs import blocks_of

TINY = """
score: tiny
rates: [0.03, 0.3]
refine: 1.0
seeds: 1
tasks:
  first:
    task: {name: mlp, train_images: 60, validation_images: 60, batch_size: 20, hidden: 8}
    epochs: 3
    evaluate_every: 3
  last:
    task: {name: mlp, train_images: 60, validation_images: 60, batch_size: 20, hidden: 4}
    stage: 3
    epochs: 3
    evaluate_every: 3
"""


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY, encoding="utf-8")
    return str(file)


def printed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    """The document that the verb prints, checked against the schema."""
    assert main(["score", *words, "--format", "json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    own = {"$ref": "#/$defs/score", "$defs": schema()["$defs"]}
    assert [error.message for error in Draft202012Validator(own).iter_errors(found)] == []
    return found


@pytest.mark.slow
def test_a_candidate_is_printed_as_a_document(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, write(tmp_path, plain()), "--config", tiny)
    assert (found["valid"], found["stage"], found["cheat"]) == (True, 3, False)
    assert found["metrics"]["combined_score"] == found["tasks"]["first"]["speedup"]
    assert found["metrics"]["held_out_speedup"] == pytest.approx(found["tasks"]["last"]["speedup"])
    assert all(found["probes"].values())
    assert found["costs"]["trainings"] == 2 + 2 * 3, "two for the probes, three for each task"


def test_a_file_that_is_missing_is_a_document_with_its_reason(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = str(tmp_path / "nowhere.py")
    found = printed(capsys, given, "--config", tiny, status=3)
    assert (found["valid"], found["fault"], found["cheat"]) == (False, "input", False)
    assert found["metrics"]["combined_score"] == 0
    assert main(["score", given, "--config", tiny]) == 3
    assert capsys.readouterr().out == f"{given}: not valid (input): {found['reason']}\n"


@pytest.mark.slow
def test_people_are_told_the_same(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", write(tmp_path, plain()), "--config", tiny]) == 0
    said = capsys.readouterr()
    assert "combined score" in said.out
    assert "last (mlp on digits, held out)" in said.out
    assert "stage 3, last" in said.err


def test_the_schema_knows_every_kind_of_fault() -> None:
    assert schema()["$defs"]["score"]["properties"]["fault"]["enum"] == ["", *KINDS]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scale", "smal"], "did you mean 'small'|one of: full smoke"),
        (["--tasks", "digitz"], "did you mean 'digits'"),
        (["--config", "nowhere.yaml"], "no such file"),
        (["--time-limit", "0"], "must be positive seconds"),
        (["--memory", "much"], "expected a size such as 512M"),
        (["--stages", "4"], "invalid choice"),
        (["--stages", "1", "--first", "3"], "none of the tasks"),
        (["--set", "rates=[]"], "rates must be different numbers"),
    ],
)
def test_a_mistake_of_the_callers_is_one_error(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["score", "g", *words])
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_dry_run_says_what_is_trained_and_which_baselines_are_missing(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["score", "g", "--config", tiny, "--set", "seeds=4", "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "tiny at scale default: 6 trainings per task" in said
    assert "stage 1, first: mlp on digits, 9 updates each" in said
    assert said.count("adamw and sgd to tune first") == 2


@pytest.mark.slow
def test_evaluate_keeps_the_contract_of_programs_that_evolve_code(
    tiny: str, tmp_path: Path
) -> None:
    from nos_repro.score import evaluate, evaluate_stage1, evaluate_stage2, evaluate_stage3

    file = write(tmp_path, plain())
    first = evaluate_stage1(file, config=tiny)
    assert all(isinstance(value, float) for value in first.values())
    assert (first["valid"], first["combined_score"]) == (1, first["speedup_first"])
    held_out = evaluate_stage3(file, config=tiny)
    assert "combined_score" not in held_out
    assert held_out["held_out_speedup"] > 0
    missing = evaluate(tmp_path / "nowhere.py", config=tiny)
    assert (missing["valid"], missing["combined_score"]) == (0, 0)
    assert "no such file" in missing["reason"]
    with pytest.raises(LaunchError, match="none of the tasks"):
        evaluate_stage2(file, config=tiny)


@pytest.mark.slow
@pytest.mark.drill
def test_a_stub_of_a_proposer_finds_rules_better_than_its_first_in_a_hundred_candidates(
    tmp_path: Path,
) -> None:
    """The program that docs/score.md shows."""
    (source,) = (b.text for b in blocks_of(ROOT / "docs" / "score.md") if b.title == "proposer.py")
    (tmp_path / "proposer.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "proposer.py", "100"],
        cwd=tmp_path, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    proposed = [float(line.split()[1]) for line in lines if line.startswith("candidates/")]
    assert len(proposed) == len(list((tmp_path / "candidates").iterdir())) == 100
    assert max(proposed[20:]) > max(proposed[:20])
    assert float(lines[-5].split()[0]) == pytest.approx(max(proposed), abs=1e-3)
