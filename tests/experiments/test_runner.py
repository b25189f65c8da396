"""One trial from settings to record: what exists already, what another process left, devices."""

import builtins
import dataclasses
import errno
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

from nos_repro.experiments import build, files, heartbeat, runner
from nos_repro.experiments.build import Conditions, make_fabric
from nos_repro.experiments.files import StoreError
from nos_repro.experiments.heartbeat import read_lease
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.store import Store
from nos_repro.experiments.training import Run, Stopped
from nos_repro.experiments.trial import Training
from nos_repro.tasks.convnet import ConvNet
from tests.conftest import ROOT
from tests.experiments.helpers import digits_trial, write_record

HERE = Conditions(Path("unused"))


def record_of(folder):
    return json.loads((folder / "record.json").read_text())


def stopped_after_one_step(trial, folder):
    with pytest.raises(Stopped):
        run_trial(trial, folder, HERE, stop=lambda: True)


def test_a_trial_that_another_process_has_ended_is_not_trained_again(tmp_path):
    trial = digits_trial()
    write_record(tmp_path, trial, seconds=123.0)
    assert run_trial(trial, tmp_path, HERE) == ("recorded", [])
    assert record_of(tmp_path)["seconds"] == 123.0


def test_an_unreadable_record_or_one_of_other_settings_is_trained_again(tmp_path):
    trial = digits_trial()
    for name in ("torn", "other"):
        write_record(tmp_path / name, trial, trial=digits_trial(lr=1.0).to_json())
    (tmp_path / "torn" / "record.json").write_text("{")
    for name in ("torn", "other"):
        run_trial(trial, tmp_path / name, HERE)
        assert record_of(tmp_path / name)["trial"] == trial.to_json()


NO_UTF8 = "no file '\udcff.npz'"
"""As `open` names a file whose name is no UTF-8."""


def test_a_record_that_the_store_cannot_read_is_trained_again(tmp_path):
    """Python's own reader accepts half a surrogate, the store's does not."""
    trial, store = digits_trial(), Store(tmp_path, "tiny", "smoke")
    write_record(store.folder(trial), trial, status="failed", reason=NO_UTF8)
    assert store.record(trial) is None
    run_trial(trial, store.folder(trial), HERE)
    assert store.record(trial).status == "finished"


def test_a_failure_whose_message_is_not_utf8_is_a_record_that_can_be_read(tmp_path, monkeypatch):
    def fails(*_):
        raise FileNotFoundError(NO_UTF8)

    trial, store = digits_trial(), Store(tmp_path, "tiny", "smoke")
    monkeypatch.setattr(runner, "build", fails)
    run_trial(trial, store.folder(trial), HERE)
    record = store.record(trial)
    assert record.status == "failed"
    assert record.reason == r"FileNotFoundError: no file '\udcff.npz'"
    assert record.reason in record.traceback
    assert record.reason in (store.folder(trial) / "log.txt").read_text()


def test_a_checkpoint_with_other_settings_under_the_same_identity_is_never_resumed(tmp_path):
    """A changed default is not part of the identity, so both trainings share a folder."""
    trial = digits_trial()
    stopped_after_one_step(trial, tmp_path)
    yesterday = {**trial.to_json(), "task_settings": {**trial.task_settings, "augment": True}}
    (tmp_path / "settings.json").write_text(json.dumps(yesterday))
    _, notes = run_trial(trial, tmp_path, HERE)
    assert "other settings" in notes[0]
    assert (tmp_path / "checkpoint.other.pt").exists()
    assert json.loads((tmp_path / "settings.json").read_text()) == trial.to_json()
    run_trial(trial, tmp_path / "fresh", HERE)
    assert record_of(tmp_path)["metrics"] == record_of(tmp_path / "fresh")["metrics"]


def test_a_trial_that_two_versions_of_the_code_have_trained_is_the_older_ones(
    tmp_path, monkeypatch
):
    trial = digits_trial()
    for code in ("one", "two", "one"):
        monkeypatch.setattr(runner, "trial_code", lambda *_, code=code: code)
        stopped_after_one_step(trial, tmp_path)
    run_trial(trial, tmp_path, HERE)
    assert record_of(tmp_path)["code"] == "two"
    run_trial(trial, tmp_path / "fresh", HERE)
    assert record_of(tmp_path / "fresh")["code"] == "one"


@pytest.mark.parametrize(
    "number", [torch.tensor(50.0), numpy.float32(50), numpy.int64(50), Decimal(50), "50"], ids=repr
)
def test_a_metric_may_be_any_number(tmp_path, monkeypatch, number):
    """What `torchmetrics` and scikit-learn return; hours of training must not end in a record that
    cannot be written."""
    monkeypatch.setattr(ConvNet, "metrics", staticmethod(lambda _: {"accuracy": number}))
    assert run_trial(digits_trial(), tmp_path, HERE) == ("recorded", [])
    record = record_of(tmp_path)
    assert record["status"] == "finished"
    assert {point["val_accuracy"] for point in record["metrics"]} == {50.0}


@pytest.mark.parametrize("code", [None, 0, 3])
def test_a_task_that_ends_the_program_is_a_failed_trial(tmp_path, monkeypatch, code):
    """A script that is used as a module may call `sys.exit`: the other trials go on."""
    trial = digits_trial()
    monkeypatch.setattr(runner, "build", lambda *_: sys.exit(code))
    assert run_trial(trial, tmp_path, HERE) == ("recorded", [])
    record = record_of(tmp_path)
    assert record["status"] == "failed"
    assert record["reason"].startswith("EndsProgram: it ends the program: sys.exit(")
    assert "test_runner.py" in record["traceback"]


def test_a_worker_trains_on_the_device_that_it_was_given(monkeypatch):
    asked = {}

    def fabric(**words):
        asked.update(words)
        return SimpleNamespace()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(build, "Fabric", fabric)
    monkeypatch.setattr(build, "_fabric_alone", build._fabric_alone.__wrapped__)
    make_fabric("auto")
    assert (asked["accelerator"], asked["devices"]) == ("cuda", [3])
    make_fabric("cpu")
    assert (asked["accelerator"], asked["devices"]) == ("cpu", 1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The record of the trial from a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_trial(digits_trial(), folder, HERE)
    return record_of(folder)


def test_a_trial_that_failed_and_is_tried_again_goes_on_from_its_checkpoint(
    tmp_path, monkeypatch, undisturbed
):
    trial, store = digits_trial(), Store(tmp_path, "tiny", "smoke")
    often = dataclasses.replace(HERE, checkpoint_seconds=0.0)
    step, steps = Run.train_step, []

    def counted(run, batch):
        if len(steps) == 6:
            steps.append("refused")
            raise OSError(errno.EIO, "the disk of the data")
        steps.append(run.step)
        step(run, batch)

    monkeypatch.setattr(Run, "train_step", counted)
    run_trial(trial, store.open(trial), often)
    assert store.record(trial).status == "failed"
    store.compact([trial])
    store.retry(trial)
    run_trial(trial, store.open(trial), often)
    assert steps == [0, 1, 2, 3, 4, 5, "refused", 6, 7]
    record = store.record(trial)
    assert (record.status, record.metrics) == ("finished", undisturbed["metrics"])
    failed = json.loads((store.folder(trial) / "record.failed.1.json").read_text())
    assert "the disk of the data" in failed["traceback"]
    assert "the disk of the data" in (store.folder(trial) / "log.txt").read_text()


def rewritten(**changes):
    """Changes values in the saved state; None removes one."""

    def change(path):
        state = torch.load(path, weights_only=True)
        state |= changes
        torch.save({key: value for key, value in state.items() if value is not None}, path)

    return change


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def blotted(path):
    data = path.read_bytes()
    path.write_bytes(data[:2000] + b"x" * 100 + data[2100:])


# fmt: off
DAMAGED = {
    "empty":                lambda path: path.write_bytes(b""),
    "torn":                 lambda path: path.write_bytes(b"PK torn"),
    "cut":                  cut,
    "blotted":              blotted,
    "another pickle":       lambda path: torch.save(Path("x"), path),
    "a list":               lambda path: torch.save([1], path),
    "a newer version":      rewritten(version=99),
    "no model":             rewritten(model=None),
    "a model of no kind":   rewritten(model=3),
    "another model":        rewritten(model={"w": torch.zeros(2)}),
    "half an optimizer":    rewritten(optimizer={"state": {}}),
    "another optimizer":    rewritten(optimizer={"state": {}, "param_groups": []}),
    "no random numbers":    rewritten(random={}),
    "odd random numbers":   rewritten(random={"cpu": torch.zeros(3, dtype=torch.uint8)}),
    "a word for an epoch":  rewritten(epoch="two"),
    "a word for a history": rewritten(history="none"),
}
# fmt: on


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_checkpoint_is_kept_aside_and_named_and_the_trial_starts_over(
    tmp_path, undisturbed, damage
):
    trial = digits_trial()
    stopped_after_one_step(trial, tmp_path)
    path = tmp_path / "checkpoint.pt"
    damage(path)
    damaged = path.read_bytes()
    outcome, (note,) = run_trial(trial, tmp_path, HERE)
    assert outcome == "recorded"
    assert note.startswith(f"{path} is corrupt (")
    assert "\n" not in note
    assert (tmp_path / "checkpoint.corrupt.pt").read_bytes() == damaged
    assert record_of(tmp_path)["status"] == "finished"
    assert record_of(tmp_path)["metrics"] == undisturbed["metrics"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"task_settings": 3}', b""])
def test_a_checkpoint_whose_settings_are_damaged_is_not_trusted(tmp_path, undisturbed, content):
    trial = digits_trial()
    stopped_after_one_step(trial, tmp_path)
    (tmp_path / "settings.json").write_bytes(content)
    _, (note,) = run_trial(trial, tmp_path, HERE)
    assert f"{tmp_path / 'settings.json'} is damaged" in note
    assert (tmp_path / "settings.damaged.json").read_bytes() == content
    assert (tmp_path / "checkpoint.other.pt").exists()
    assert json.loads((tmp_path / "settings.json").read_text()) == trial.to_json()
    assert record_of(tmp_path)["metrics"] == undisturbed["metrics"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{]", b"<html>"])
def test_a_trial_whose_code_nobody_knows_goes_on_and_is_stale(tmp_path, undisturbed, content):
    trial = digits_trial()
    stopped_after_one_step(trial, tmp_path)
    (tmp_path / "code.txt").write_bytes(content)
    _, (note,) = run_trial(trial, tmp_path, HERE)
    assert note.startswith(f"{tmp_path / 'code.txt'} is damaged")
    assert (tmp_path / "code.damaged.txt").read_bytes() == content
    record = record_of(tmp_path)
    assert (record["status"], record["code"]) == ("finished", "unknown")
    assert record["metrics"] == undisturbed["metrics"]
    run_trial(trial, tmp_path / "fresh", HERE)
    assert record_of(tmp_path / "fresh")["code"] == undisturbed["code"]


@pytest.mark.parametrize("name", ["checkpoint.pt", "settings.json", "code.txt", "record.json"])
def test_a_trial_that_cannot_be_read_for_a_moment_is_left_as_it_is(tmp_path, monkeypatch, name):
    trial = digits_trial()
    stopped_after_one_step(trial, tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps(trial.to_json()))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def refused(path, *words):
        if str(path).endswith(name):
            raise OSError(errno.EIO, "refused")
        return builtins.open(path, *words)

    with monkeypatch.context() as patch:
        patch.setattr(files, "open", refused, raising=False)
        with pytest.raises(StoreError, match=rf"cannot read .*{name}: Input/output error"):
            run_trial(trial, tmp_path, HERE)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert run_trial(trial, tmp_path, HERE) == ("recorded", [])


def test_scratch_of_a_checkpoint_goes_when_the_trial_goes_on(tmp_path):
    scratch = tmp_path / ".checkpoint.pt.another-host.7.0123abcd.tmp"
    scratch.touch()
    run_trial(digits_trial(), tmp_path, HERE)
    assert not scratch.exists()


def test_a_trial_whose_folder_is_moved_stops_and_continues_where_it_is_now(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    trial = digits_trial(training=Training(epochs=10**6))
    before, now = tmp_path / "before/trial", tmp_path / "now/trial"

    def move():
        if before.parent.exists() and (before / "metrics.jsonl").exists() and not now.exists():
            before.parent.rename(now.parent)
        return False

    with pytest.raises(StoreError, match="was moved or removed while this trial ran"):
        run_trial(trial, before, HERE, stop=move)
    assert not (before / "record.json").exists()
    assert read_lease(before) is None
    stopped_after_one_step(trial, now)  # nobody has it any more


def test_a_log_takes_every_letter_in_every_locale(tmp_path):
    script = (
        "import logging, pathlib, sys\n"
        "from nos_repro.experiments.runner import _logging_to\n"
        "with _logging_to(pathlib.Path(sys.argv[1]), []):\n"
        "    logging.warning('f\\u00fcr \\udcff')\n"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **plain}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log.txt")],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.stderr == ""
    assert "f\u00fcr \\udcff" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_trial_is_not_lost_with_its_log(tmp_path, monkeypatch):
    (tmp_path / "log.txt").mkdir()
    monkeypatch.setattr(runner, "train", _logging_twice(runner.train))
    outcome, notes = run_trial(digits_trial(), tmp_path, HERE)
    assert outcome == "recorded"
    assert record_of(tmp_path)["status"] == "finished"
    assert notes == [
        f"{tmp_path / 'log.txt'} cannot be written (Is a directory); the trial goes on"
    ]


def _logging_twice(train):
    def logging_train(*given, **named):
        runner.log.warning("once")
        runner.log.warning("twice")
        return train(*given, **named)

    return logging_train


def test_settings_that_nest_without_end_are_damaged(tmp_path):
    (tmp_path / "settings.json").write_text("[" * 100_000)
    outcome, _ = run_trial(digits_trial(), tmp_path, HERE)
    assert outcome == "recorded"
    assert record_of(tmp_path)["status"] == "finished"
    assert (tmp_path / "settings.damaged.json").read_text() == "[" * 100_000
