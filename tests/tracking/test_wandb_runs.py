"""Trials as runs of W&B, offline: one run however often a trial starts, and never a failure."""

import builtins
import errno
import json
import os
import pickle
import re
import statistics
from types import SimpleNamespace

import pytest
import torch
import wandb

from nos_repro.experiments.build import Conditions
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.schema import Row
from nos_repro.experiments.training import Stopped
from nos_repro.experiments.trial import Training
from nos_repro.tracking.connection import RunMemory
from nos_repro.tracking.wandb_runs import FollowedTrial, WandbRuns
from tests.experiments.helpers import digits_study
from tests.tracking.reading import parts

STUDY = digits_study(
    {"SGD": Row("sgd"), "far <b>off</b>": Row("sgd", sweep={"lr": [1e30]})},
    training=Training(epochs=3),
)


@pytest.fixture
def tracker(tmp_path):
    """The tracker as a worker receives it."""
    return pickle.loads(pickle.dumps(WandbRuns(STUDY, tmp_path / "tracked")))


def trial_of(row):
    return sweep_trial(STUDY, STUDY.rows[row], points(STUDY, STUDY.rows[row])[0])


def record_in(folder):
    return json.loads((folder / "record.json").read_text())


def test_a_restarted_trial_continues_in_the_same_run_and_logs_nothing_twice(tracker, tmp_path):
    trial, folder = trial_of("SGD"), tmp_path / "trial"
    looks = iter([False] * 5 + [True] * 100)
    with pytest.raises(Stopped):
        run_trial(
            trial, folder, Conditions(tmp_path), stop=lambda: next(looks), tracker=tracker
        )  # fmt: skip
    run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    memory = json.loads((folder / "wandb.json").read_text())
    assert (memory["told"], memory["step"]) == (3, 12)
    first, second = parts(tracker.folder)
    assert first.run["run_id"] == second.run["run_id"] == memory["id"]
    assert re.fullmatch(f"tiny-smoke-{trial.id}-[0-9a-f]{{8}}", memory["id"])
    steps = [point["global_step"] for point in first.losses + second.losses]
    assert steps == list(range(1, 13))
    assert first.history
    assert second.history
    curve = record_in(folder)["metrics"]
    told = [{k: v for k, v in point.items() if k[0] != "_"} for point in first.history]
    told += [{k: v for k, v in point.items() if k[0] != "_"} for point in second.history]
    for point, said in zip(curve, told, strict=True):
        point["global_step"] = point.pop("step")
        assert said == pytest.approx(point)
    assert first.summary["status"] == "training"  # it was interrupted
    assert second.summary["status"] == "finished"


def test_a_run_has_its_group_job_type_tags_config_steps_and_final_values(tracker, tmp_path):
    trial, folder = trial_of("SGD"), tmp_path / "trial"
    run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    (part,) = parts(tracker.folder)
    assert part.run["run_group"] == "tiny/smoke"
    assert part.run["job_type"] == "sweep"
    assert part.run["tags"] == ["SGD", "sgd", "constant"]
    assert (part.config["row"], part.config["phase"], part.config["lr"]) == ("SGD", "sweep", 0.01)
    stand = [
        (said.get("name") or said["glob_name"], said.get("step_metric")) for said in part.steps
    ]
    assert stand == [("epoch", None), ("global_step", None), ("*", "global_step")]
    curve = record_in(folder)["metrics"]
    best = max(curve, key=lambda point: point["val_accuracy"])
    assert part.summary["best_val"] == pytest.approx(best["val_accuracy"])
    assert part.summary["best_test"] == pytest.approx(best["test_accuracy"])
    assert part.summary["final_test"] == pytest.approx(curve[-1]["test_accuracy"])


def test_a_divergence_is_logged_as_one_and_has_no_final_values(tracker, tmp_path):
    trial, folder = trial_of("far <b>off</b>"), tmp_path / "trial"
    run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    assert record_in(folder)["status"] == "diverged"
    (part,) = parts(tracker.folder)
    assert part.summary["status"] == "diverged"
    assert part.summary["reason"] == record_in(folder)["reason"]
    assert not {"best_val", "final_test"} & part.summary.keys()
    assert part.config["row"] == "far <b>off</b>"


def test_a_tracker_that_breaks_fails_no_trial(tracker, tmp_path, monkeypatch):

    def broken(**_):
        raise OSError("no room")

    monkeypatch.setattr(wandb, "init", broken)
    folder = tmp_path / "trial"
    outcome, _ = run_trial(trial_of("SGD"), folder, Conditions(tmp_path), tracker=tracker)
    assert outcome == "recorded"
    assert record_in(folder)["status"] == "finished"
    assert "cannot open a W&B run" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    "broken", ["wandb.Run.define_metric", "nos_repro.tracking.wandb_runs.role_of"]
)
def test_a_run_that_breaks_while_it_is_opened_fails_no_trial_and_is_closed(
    tracker, tmp_path, monkeypatch, broken
):
    """As when W&B's service is killed."""

    def breaks(*_, **__):
        raise BrokenPipeError("nobody is there")

    monkeypatch.setattr(broken, breaks)
    folder = tmp_path / "trial"
    outcome, _ = run_trial(trial_of("SGD"), folder, Conditions(tmp_path), tracker=tracker)
    assert outcome == "recorded"
    assert record_in(folder)["status"] == "finished"
    assert "nobody is there" in (folder / "log.txt").read_text()
    assert wandb.run is None
    assert not (folder / "wandb.json").exists()


def stopped_after(updates, trial, folder, tracker):
    looks = iter([False] * updates + [True] * 100)
    with pytest.raises(Stopped):
        run_trial(
            trial, folder, Conditions(folder), stop=lambda: next(looks), tracker=tracker
        )  # fmt: skip


def epochs_of(part):
    return [point["epoch"] for point in part.history]


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_what_was_logged_is_not_forgotten_when_it_cannot_be_read(
    tracker, tmp_path, monkeypatch, code
):
    """As a network file system fails for a moment: the next attempt logs what this one did not."""
    trial, folder = trial_of("SGD"), tmp_path / "trial"
    stopped_after(5, trial, folder, tracker)
    before = (folder / "wandb.json").read_bytes()
    opened = builtins.open

    def stale(file, *given, **named):
        if str(file).endswith("wandb.json"):
            raise OSError(code, os.strerror(code), str(file))
        return opened(file, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", stale)
        stopped_after(5, trial, folder, tracker)
    assert (folder / "wandb.json").read_bytes() == before
    run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    first, last = parts(tracker.folder)
    assert first.run["run_id"] == last.run["run_id"]
    assert epochs_of(first) + epochs_of(last) == [1, 2, 3]


@pytest.mark.parametrize("kept", ["", "[1]", "{}", "[" * 100_000, '{"id": "a", "told": 1e400}'])
def test_a_damaged_memory_of_what_was_logged_begins_a_new_run(tmp_path, kept, caplog):
    path = tmp_path / "wandb.json"
    path.write_text(kept)
    memory = RunMemory.recall(path, "tiny")
    assert memory.told == 0
    assert memory.id.startswith("tiny-")
    assert f"{path} is damaged" in caplog.text


@pytest.mark.slow
def test_in_a_sweep_the_run_that_w_and_b_chooses_gets_the_whole_curve(
    tracker, tmp_path, monkeypatch
):
    """W&B replaces the id that a run asks for while `wandb agent` runs it."""
    trial, folder = trial_of("SGD"), tmp_path / "trial"
    stopped_after(5, trial, folder, tracker)
    wandb.teardown()
    with monkeypatch.context() as agent:
        agent.setenv("WANDB_SWEEP_ID", "sweep1")
        agent.setenv("WANDB_RUN_ID", "agents")
        stopped_after(5, trial, folder, tracker)
    wandb.teardown()
    run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    by_agent = [part.run["run_id"] == "agents" for part in parts(tracker.folder)]
    assert sorted(by_agent) == [False, True, True]  # two that begin within a second have no order
    agents, later = (part for part in parts(tracker.folder) if part.run["run_id"] == "agents")
    assert epochs_of(agents) + epochs_of(later) == [1, 2, 3]


def test_training_does_not_depend_on_what_follows_it(tracker, tmp_path):
    for name, followed in (("followed", tracker), ("alone", None)):
        run_trial(trial_of("SGD"), tmp_path / name, Conditions(tmp_path), tracker=followed)
    curves = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("followed", "alone")]
    assert curves[0] == curves[1]
    weights = [torch.load(tmp_path / name / "checkpoint.pt") for name in ("followed", "alone")]
    ours, theirs = (each["model"] for each in weights)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_losses_of_an_epoch_s_steps_average_to_its_train_loss(tracker, tmp_path):
    trial, folder = trial_of("SGD"), tmp_path / "trial"
    run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    (part,) = parts(tracker.folder)
    curve = record_in(folder)["metrics"]
    for number, point in enumerate(curve):
        losses = [said["loss"] for said in part.losses[4 * number : 4 * number + 4]]
        assert statistics.fmean(losses) == pytest.approx(point["train_loss"])


def test_a_long_trial_has_its_losses_evenly_spaced_and_not_more_than_a_chart_shows(tmp_path):
    said = []
    run = SimpleNamespace(log=said.append)
    followed = FollowedTrial(STUDY, run, RunMemory(tmp_path / "wandb.json", "x"))
    for first in range(1, 100_000, 25):
        followed.losses(first, [float(step) for step in range(first, first + 25)], 100_000)
    followed.losses(99_901, [0.0] * 100, 100_000)  # a resumed attempt repeats some
    assert said == [{"global_step": k, "loss": k} for k in range(100, 100_001, 100)]


def test_the_same_trial_in_two_folders_is_two_runs(tracker, tmp_path):
    for name in ("mine", "yours"):
        run_trial(trial_of("SGD"), tmp_path / name, Conditions(tmp_path), tracker=tracker)
    first, second = parts(tracker.folder)
    assert first.run["run_id"] != second.run["run_id"]


def test_a_run_has_the_commit_the_hardware_the_paper_s_value_and_w_and_b_s_own_metadata(tmp_path):
    rows = {"SGD": Row("sgd", paper={"final_test": 93.0, "best_test": 94.0})}
    study = digits_study(rows, training=Training(epochs=1))
    trial = sweep_trial(study, study.rows["SGD"], points(study, study.rows["SGD"])[0])
    run_trial(trial, tmp_path / "t", Conditions(tmp_path), tracker=WandbRuns(study, tmp_path))
    (part,) = parts(tmp_path)
    made = record_in(tmp_path / "t")["provenance"]
    for key in ("commit", "host", "device", "libraries"):
        assert part.config[key] == made[key], key
    assert (part.summary["paper_final_test"], part.summary["paper_best_test"]) == (93.0, 94.0)
    assert part.environment["host"] == made["host"]
    assert part.environment["cpu_count"]


def test_w_and_b_s_own_settings_opt_out_of_its_metadata(tracker, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB__DISABLE_META", "true")
    monkeypatch.setenv("WANDB__DISABLE_STATS", "true")
    run_trial(trial_of("SGD"), tmp_path / "t", Conditions(tmp_path), tracker=tracker)
    (part,) = parts(tracker.folder)
    assert "cpu_count" not in part.environment
    assert not part.stats
