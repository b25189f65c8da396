"""What `status` says, from the files of a store alone."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from nos_repro.experiments.files import this_host
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.report.study.status import study_status
from tests.experiments.helpers import digits_study
from tests.report.records import accuracy, filled_store


def status(study: Study, store: Store) -> str:
    return study_status(study, Store(store.root.parent.parent, study.study, study.scale))


def claim(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "host": this_host(),
        "pid": os.getpid(),
        "updated": time.time(),
        "step": 30,
        "steps": 120,
        "latest": {"val_accuracy": 61.25},
    }
    (folder / "claim.json").write_text(json.dumps(values | changes))


def first_trial(study: Study, store: Store) -> Trial:
    return outcomes(study, store)[0].sweep[0].trial


def test_an_empty_study_has_everything_before_it(tmp_path: Path) -> None:
    study = digits_study()
    text = status(study, filled_store(study, tmp_path, lambda t: None))
    assert "0 of 8 trials have ended: 0 running, 8 not begun" in text


def test_every_kind_of_end_is_counted(tmp_path: Path) -> None:
    def ending(trial: Trial) -> dict[str, Any] | None:
        if trial.optimizer == "sgd" and trial.lr == 0.01:
            return {"status": "diverged", "metrics": []}
        return accuracy(50.0) if trial.seed < 2 else None

    study = digits_study()
    text = status(study, filled_store(study, tmp_path, ending))
    assert "6 of 8 trials have ended: 5 finished, 1 diverged, 0 running, 2 not begun" in text
    lines = {line.split()[0]: line.split() for line in text.splitlines() if "/2" in line}
    assert lines["SGD"][1:4] == ["2/2", "1/2", "lr=0.1"]
    assert "(1 diverged)" in text


def test_a_trial_with_a_live_claim_runs_and_says_how_far_it_is(tmp_path: Path) -> None:
    study = digits_study()
    store = filled_store(study, tmp_path, lambda t: None)
    claim(store.folder(first_trial(study, store)))
    text = status(study, store)
    assert "1 running, 7 not begun" in text
    assert f"step 30/120 (25%), pid {os.getpid()} on {this_host()}" in text
    assert "val_accuracy=61.25" in text


ODD = [{"latest": {"val_accuracy": "x"}}, {"step": -5, "steps": 1}, {"steps": 0}, {"latest": {}}]


@pytest.mark.parametrize("odd", ODD)
def test_a_claim_that_says_odd_things_is_shown_without_them(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    study = digits_study()
    store = filled_store(study, tmp_path, lambda t: None)
    claim(store.folder(first_trial(study, store)), **odd)
    assert "1 running, 7 not begun" in status(study, store)


def test_a_trial_whose_worker_died_is_interrupted(tmp_path: Path) -> None:
    study = digits_study()
    store = filled_store(study, tmp_path, lambda t: None)
    folder = store.folder(first_trial(study, store))
    claim(folder, pid=2**22 + 1)
    (folder / "checkpoint.pt").write_bytes(b"")
    assert "0 running, 1 interrupted" in status(study, store)


def test_a_worker_of_another_host_runs_if_its_claim_has_changed_lately(tmp_path: Path) -> None:
    """The clock of its host is days off, so that only the file's own time tells."""
    study = digits_study()
    store = filled_store(study, tmp_path, lambda t: None)
    live, dead = (scored.trial for scored in outcomes(study, store)[0].sweep)
    then = {"host": "elsewhere", "updated": time.time() - 864_000}
    for trial in (live, dead):
        claim(store.folder(trial), **then)
        (store.folder(trial) / "checkpoint.pt").write_bytes(b"")
    os.utime(store.folder(dead) / "claim.json", (0, 0))
    assert "1 running, 1 interrupted" in status(study, store)


def test_a_failure_is_named_with_its_reason_and_its_log(tmp_path: Path) -> None:
    study = digits_study()

    def ending(trial: Trial) -> dict[str, Any]:
        if trial.optimizer == "sgd" and trial.lr == 0.1:
            return {"status": "failed", "metrics": [], "reason": "OSError: no\nspace"}
        return accuracy(50.0)

    store = filled_store(study, tmp_path, ending)
    trial = outcomes(study, store)[0].sweep[1].trial
    assert "no log here" in status(study, store)
    log = store.folder(trial) / "log.txt"
    log.write_text("what happened")
    text = status(study, store)
    assert f"{trial.label()}: OSError: no space\n    {log}" in text
    assert "run --retry" in text


def test_a_corrupt_record_is_named_and_counts_as_not_run(tmp_path: Path) -> None:
    study = digits_study()
    store = filled_store(study, tmp_path, lambda t: accuracy(50.0))
    path = store.folder(first_trial(study, store)) / "record.json"
    path.write_text('{"id":')
    text = status(study, store)
    assert "unreadable:" in text
    assert str(path) in text
    assert "1/2" in text
