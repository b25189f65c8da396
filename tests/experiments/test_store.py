"""The store: whole files or none, unreadable ones named, nothing lost."""

import errno
import json
import os
import time

import pytest

from nos_repro.experiments.files import StoreError, remove_scratch, write_atomically
from nos_repro.experiments.heartbeat import Heartbeat, read_lease
from nos_repro.experiments.store import Store
from tests.experiments.helpers import digits_trial, write_record


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "tiny", "smoke")


def test_a_record_is_found_again_and_survives_in_the_compact_form(store, tmp_path):
    trial = digits_trial()
    record = write_record(store.folder(trial), trial)
    store.compact([trial])
    clone = Store(tmp_path, "tiny", "smoke")
    (store.folder(trial) / "record.json").unlink()
    assert clone.record(trial) == record


def test_a_leftover_of_other_settings_is_never_taken(store):
    trial = digits_trial()
    write_record(store.folder(trial), trial, trial=digits_trial(lr=1.0).to_json())
    assert store.record(trial) is None


def test_the_compact_form_keeps_lines_of_other_trials_and_unreadable_ones(store, tmp_path):
    old, new = digits_trial(seed=7), digits_trial(seed=8)
    write_record(store.folder(old), old)
    store.compact([old])
    with store.compact_path.open("a") as file:
        file.write('{"id": "torn\n')
    later = Store(tmp_path, "tiny", "smoke")
    write_record(later.folder(new), new)
    later.compact([new])
    assert any("line 2" in problem for problem in later.problems)
    assert {line[:12] for line in later.compact_path.read_text().splitlines()} >= {'{"id": "torn'}
    last = Store(tmp_path, "tiny", "smoke")
    assert last.record(old) is not None
    assert last.record(new) is not None


@pytest.mark.parametrize("content", ["{", "[]", '{"id": "x"}', '{"status": "odd"}', ""])
def test_a_corrupt_record_is_named_and_counts_as_not_run(store, content):
    trial = digits_trial()
    store.folder(trial).mkdir(parents=True)
    (store.folder(trial) / "record.json").write_text(content)
    assert store.record(trial) is None
    (problem,) = store.problems
    assert "record.json" in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trial", None),
        ("trial", {"task_settings": 3}),
        ("metrics", {"epoch": 1}),
        ("metrics", [1]),
        ("metrics", [{"val_accuracy": 1.0}]),
        ("metric", 5),
        ("seconds", "long"),
        ("provenance", []),
    ],
)
def test_a_record_with_a_field_of_the_wrong_kind_is_named_and_counts_as_not_run(store, key, value):
    trial = digits_trial()
    record = write_record(store.folder(trial), trial).to_json()
    (store.folder(trial) / "record.json").write_text(json.dumps({**record, key: value}))
    assert store.record(trial) is None
    (problem,) = store.problems
    assert f"{key} is not" in problem


def test_a_record_that_cannot_be_opened_is_named_and_stops_nothing(store):
    trial = digits_trial()
    (store.folder(trial) / "record.json").mkdir(parents=True)
    assert store.record(trial) is None
    assert "record.json" in store.problems[0]


def test_curves_are_thinned_in_the_compact_form_but_keep_best_and_last(store, tmp_path):
    trial = digits_trial()
    curve = [{"epoch": i, "val_accuracy": -abs(i - 777)} for i in range(1000)]
    write_record(store.folder(trial), trial, metrics=curve)
    store.compact([trial])
    (line,) = store.compact_path.read_text().splitlines()
    epochs = [point["epoch"] for point in json.loads(line)["metrics"]]
    assert {0, 777, 999} <= set(epochs)
    assert len(epochs) <= 30 + 100 + 2
    assert epochs[:30] == list(range(30))


def test_a_full_disk_is_one_clear_error_and_leaves_no_partial_file(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"record\.json: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_scratch_of_a_killed_writer_goes_and_of_a_live_one_stays(tmp_path):
    for name in (".record.json.old.tmp", ".record.json.new.tmp", "record.json"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / ".record.json.old.tmp", (1e9, 1e9))
    os.utime(tmp_path / "record.json", (1e9, 1e9))
    remove_scratch(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".record.json.new.tmp", "record.json"}


def test_a_claim_of_a_live_process_is_respected_and_of_a_dead_one_taken_over(tmp_path):
    parent = os.getppid()
    Heartbeat(tmp_path).write()
    values = json.loads((tmp_path / "claim.json").read_text())
    (tmp_path / "claim.json").write_text(json.dumps({**values, "pid": parent}))
    assert not Heartbeat(tmp_path).take()
    (tmp_path / "claim.json").write_text(json.dumps({**values, "pid": 2**22 + 1}))
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    claim = read_lease(tmp_path)
    assert claim is not None
    assert claim.ours
    heartbeat.release()
    assert read_lease(tmp_path) is None


def test_a_claim_of_another_host_dies_with_its_heartbeat(tmp_path):
    Heartbeat(tmp_path).write()
    values = json.loads((tmp_path / "claim.json").read_text())
    far = {**values, "host": "elsewhere"}
    (tmp_path / "claim.json").write_text(json.dumps(far))
    assert not Heartbeat(tmp_path).take()
    (tmp_path / "claim.json").write_text(json.dumps({**far, "updated": values["updated"] - 1000}))
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    heartbeat.release()


def test_a_claim_stays_fresh_while_a_step_or_an_evaluation_takes_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr("nos_repro.experiments.heartbeat.BEAT_SECONDS", 0.001)
    heartbeat = Heartbeat(tmp_path, steps=9)
    assert heartbeat.take()
    heartbeat.beat(7, {"val_accuracy": 50.0})
    first = read_lease(tmp_path)
    deadline = time.monotonic() + 60
    while (claim := read_lease(tmp_path)) == first or claim.step != 7:
        assert time.monotonic() < deadline
    assert (claim.steps, claim.latest) == (9, {"val_accuracy": 50.0})
    heartbeat.release()


def test_a_claim_that_another_process_took_over_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr("nos_repro.experiments.heartbeat.BEAT_SECONDS", 1e6)
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    values = json.loads((tmp_path / "claim.json").read_text())
    (tmp_path / "claim.json").write_text(json.dumps({**values, "pid": os.getppid()}))
    heartbeat.release()
    assert (tmp_path / "claim.json").exists()
