"""Trials as runs of W&B, offline: one run however often a trial is begun, and never a failure."""

import json
import subprocess
import sys

import pytest

from nos_repro.experiments.build import Conditions
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.training import Stopped
from nos_repro.experiments.trial import Training
from nos_repro.tracking.wandb_runs import WandbRuns
from tests.experiments.helpers import digits_trial


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.fixture
def tracker(tmp_path):
    return WandbRuns("tiny", "smoke", tmp_path / "tracked")


def told(tracker):
    """What each offline run holds, by its folder's name, as W&B's own reader sees it."""
    found = {}
    for folder in sorted(tracker.folder.glob("wandb/offline-run-*")):
        words = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found[folder.name] = [json.loads(line)["type"] for line in said.splitlines()]
    return found


def test_a_trial_that_is_begun_again_goes_on_in_the_same_run_and_tells_nothing_twice(
    tracker, tmp_path
):
    trial, folder = digits_trial(training=Training(epochs=3)), tmp_path / "trial"
    epochs = iter([False] * 5 + [True] * 100)
    with pytest.raises(Stopped):
        run_trial(
            trial, folder, Conditions(tmp_path), stop=lambda: next(epochs), tracker=tracker
        )  # fmt: skip
    run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    folders = sorted(path.name for path in tracker.folder.glob("wandb/offline-run-*"))
    assert len(folders) == 2
    assert all(name.endswith(f"-tiny-smoke-{trial.id}") for name in folders)
    memory = json.loads((folder / "wandb.json").read_text())
    assert memory == {"id": f"tiny-smoke-{trial.id}", "told": 3}
    points = [kinds.count("history") for kinds in told(tracker).values()]
    assert all(points), "each attempt told something"
    assert sum(points) == 3


def test_a_tracker_that_breaks_fails_no_trial(tracker, tmp_path, monkeypatch):
    import wandb

    def broken(**_):
        raise OSError("no network")

    monkeypatch.setattr(wandb, "init", broken)
    trial, folder = digits_trial(training=Training(epochs=1)), tmp_path / "trial"
    outcome, _ = run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    assert outcome == "recorded"
    assert json.loads((folder / "record.json").read_text())["status"] == "finished"
    assert "W&B gives no run" in (folder / "log.txt").read_text()


def test_what_is_trained_does_not_depend_on_who_follows_it(tracker, tmp_path):
    trial = digits_trial()
    for name, followed in (("followed", tracker), ("alone", None)):
        run_trial(trial, tmp_path / name, Conditions(tmp_path), tracker=followed)
    curves = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("followed", "alone")]
    assert curves[0] == curves[1]
