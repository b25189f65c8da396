"""The store: whole files or none, unreadable ones named, nothing lost."""

import errno
import json
import os

import pytest

from nos_repro.experiments.claim import Heartbeat, read_claim
from nos_repro.experiments.files import StoreError, write_atomically
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


def test_curves_are_thinned_in_the_compact_form_but_keep_best_and_last(store, tmp_path):
    trial = digits_trial()
    curve = [{"epoch": i, "val_accuracy": -abs(i - 777)} for i in range(1000)]
    write_record(store.folder(trial), trial, metrics=curve)
    store.compact([trial])
    (line,) = store.compact_path.read_text().splitlines()
    epochs = [point["epoch"] for point in json.loads(line)["metrics"]]
    assert {0, 777, 999} <= set(epochs)
    assert len(epochs) < 110


def test_a_full_disk_is_one_clear_error_and_leaves_no_scrap(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"record\.json: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_claim_of_a_live_process_is_respected_and_of_a_dead_one_taken_over(tmp_path):
    parent = os.getppid()
    Heartbeat(tmp_path).beat(3, None, force=True)
    values = json.loads((tmp_path / "claim.json").read_text())
    (tmp_path / "claim.json").write_text(json.dumps({**values, "pid": parent}))
    assert not Heartbeat(tmp_path).take()
    (tmp_path / "claim.json").write_text(json.dumps({**values, "pid": 2**22 + 1}))
    assert Heartbeat(tmp_path).take()
    claim = read_claim(tmp_path)
    assert claim is not None
    assert claim.ours


def test_a_claim_of_another_host_dies_with_its_heartbeat(tmp_path):
    Heartbeat(tmp_path).beat(3, None, force=True)
    values = json.loads((tmp_path / "claim.json").read_text())
    far = {**values, "host": "elsewhere"}
    (tmp_path / "claim.json").write_text(json.dumps(far))
    assert not Heartbeat(tmp_path).take()
    (tmp_path / "claim.json").write_text(json.dumps({**far, "updated": values["updated"] - 1000}))
    assert Heartbeat(tmp_path).take()
