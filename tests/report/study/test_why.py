"""`why`: every trial behind a cell, what was chosen by which numbers, and what is wrong with it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nos_repro.experiments.schema import Row, Selection, Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.trial import Trial
from nos_repro.report.study.why import Why, explain, why_text
from tests.experiments.helpers import digits_study, digits_trial, write_record
from tests.report.records import Ending, accuracy, filled_store


def study_of(name: str = "PowerSign") -> Study:
    rows = {name: Row("powersign", paper={"best_test": 93.0})}
    study = digits_study(rows, selection=Selection(repeats=2))
    return dataclasses.replace(study, sweep={"lr": [0.01, 0.03, 0.1]})


def by_rate(trial: Trial) -> dict[str, Any]:
    return accuracy({0.01: 40.0, 0.03: 60.0, 0.1: 50.0}[trial.lr])


def explained(results: Path, ending: Ending, study: Study | None = None) -> Why:
    study = study or study_of()
    store = filled_store(study, results, ending)
    return explain(study, outcomes(study, store)[0], store)


def test_every_trial_is_named_and_the_choice_has_its_numbers(tmp_path: Path) -> None:
    why = explained(tmp_path, by_rate)
    assert [line.stage for line in why.trials] == ["sweep"] * 3 + ["repeat"] * 2
    assert [line.value for line in why.trials] == [40.0, 60.0, 50.0, 60.0, 60.0]
    assert [line.chosen for line in why.trials] == [False, True, False, False, False]
    assert why.chosen == "lr=0.03: best val 60, the next is lr=0.1 with 50"
    assert why.numbers["Best Test"].startswith("59.00")
    assert why.verdicts[0].verdict == "not comparable (scale)"
    assert why.problems == []
    text = why_text(why)
    for line in why.trials:
        assert line.id in text
    assert "nothing is missing, stale or failed" in text
    assert "commit 0123456789ab" in text.lower()


FAILED: dict[str, Any] = {"status": "failed", "metrics": [], "reason": "a bug\nof ours"}
DIVERGED: dict[str, Any] = {"status": "diverged", "metrics": [], "reason": "nan"}

# fmt: off
PROBLEMS: list[tuple[str, Ending, str]] = [
    ("missing",           lambda t: None if t.seed == 2 else by_rate(t),              "missing: 1"),
    ("nothing yet",       lambda t: None,                                             "missing: 3"),
    ("failed",            lambda t: FAILED if t.lr == 0.01 else by_rate(t),           "failed: 1"),
    ("stale",             lambda t: {**by_rate(t), "code": "0" * 12},                 "stale: "),
    ("at an edge",        lambda t: accuracy(100 * t.lr),                             "lr=0.1"),
    ("all have diverged", lambda t: DIVERGED,                                         "no repeats"),
]
# fmt: on


@pytest.mark.parametrize(
    ("ending", "word"), [p[1:] for p in PROBLEMS], ids=[p[0] for p in PROBLEMS]
)
def test_problems_are_reported(ending: Ending, word: str, tmp_path: Path) -> None:
    why = explained(tmp_path, ending)
    assert any(word in problem for problem in why.problems), why.problems
    assert word in why_text(why)


def test_a_record_that_was_verified_shows_its_old_signature_and_its_new_one(tmp_path: Path) -> None:
    study = study_of()
    store = filled_store(study, tmp_path, by_rate)
    first, *others = outcomes(study, store)[0].records
    store.replace(dataclasses.replace(first, verified=["0" * 12, "1" * 12]))
    text = why_text(explain(study, outcomes(study, store)[0], store))
    assert f"Code {first.code} (1 record; made by {'0' * 12}, verified 2 times since)." in text
    assert f"Code {first.code} ({len(others)} records)." in text


def test_a_failure_says_its_reason_on_one_line(tmp_path: Path) -> None:
    text = why_text(explained(tmp_path, PROBLEMS[2][1]))
    assert "a bug of ours" in text


def test_records_that_no_row_asks_for_are_counted_as_such(tmp_path: Path) -> None:
    study = study_of()
    store = filled_store(study, tmp_path, by_rate)
    older = digits_trial(lr=0.7)
    write_record(store.folder(older), older)
    store.compact([older])
    why = explain(study, outcomes(study, store)[0], store)
    assert any(problem.startswith("not counted: 1 records") for problem in why.problems)


def test_a_name_cannot_command_the_terminal(tmp_path: Path) -> None:
    text = why_text(explained(tmp_path, by_rate, study_of("\x1b]0;owned\x07\x1b[2J $(reboot)\r")))
    assert not {"\x1b", "\x07", "\r"} & set(text)
    assert "$(reboot)" in text
