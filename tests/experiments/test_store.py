"""The store: whole files or none, unreadable ones named, nothing lost."""

import builtins
import dataclasses
import errno
import json
import os
import pickle
from itertools import chain

import pytest

from nos_repro.experiments import files
from nos_repro.experiments.files import StoreError, this_host
from nos_repro.experiments.store import LOCK, Store
from tests.experiments.helpers import digits_trial, write_record
from tests.racing import race


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
        ("provenance", {"device_settings": None}),
        ("provenance", {"processes": "4"}),
    ],
)
def test_a_record_with_a_field_of_the_wrong_kind_is_named_and_counts_as_not_run(store, key, value):
    trial = digits_trial()
    record = write_record(store.folder(trial), trial).to_json()
    (store.folder(trial) / "record.json").write_text(json.dumps({**record, key: value}))
    assert store.record(trial) is None
    (problem,) = store.problems
    assert f"{key} is not" in problem


# fmt: off
READS = {
    "records.jsonl": {
        "a record":       lambda store, old, new: store.record(old),
        "the others":     lambda store, old, new: store.others(set()),
        "compacting":     lambda store, old, new: store.compact([old, new]),
        "another try":    lambda store, old, new: store.retry(old),
        "a replacement":  lambda store, old, new: store.replace(store._own(new.id)),
    },
    "record.json": {
        "a record":       lambda store, old, new: store.record(old),
        "compacting":     lambda store, old, new: store.compact([old, new]),
    },
}
# fmt: on


def refusing(name, number):
    """`open`, but for files of that name."""

    def refused(path, *words, **named):
        if str(path).endswith(name):
            raise OSError(number, "refused")
        return builtins.open(path, *words, **named)

    return refused


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize(("name", "use"), [(n, use) for n, uses in READS.items() for use in uses])
def test_what_cannot_be_read_for_a_moment_is_never_taken_for_absent(
    store, tmp_path, monkeypatch, name, use, number
):
    old, new = digits_trial(seed=7), digits_trial(seed=8)
    write_record(store.folder(old), old, status="failed")
    store.open(old)
    store.compact([old])
    write_record(store.folder(new), new)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    monkeypatch.setattr(files, "open", refusing(name, number), raising=False)
    with pytest.raises(StoreError, match=rf"cannot read .*{name}: "):
        READS[name][use](Store(tmp_path, "tiny", "smoke"), old, new)
    monkeypatch.undo()
    after = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    assert after == before


def test_a_folder_in_the_place_of_a_file_is_named_and_stops_only_who_writes(store):
    trial = digits_trial()
    (store.folder(trial) / "record.json").mkdir(parents=True)
    store.compact_path.mkdir()
    assert store.record(trial) is None
    assert store.others(set()) == {}
    assert [problem.split(":")[0].rsplit("/")[-1] for problem in store.problems] == [
        "record.json", "records.jsonl",
    ]  # fmt: skip
    with pytest.raises(StoreError, match=r"cannot read .*records\.jsonl: Is a directory"):
        store.compact([trial])


def test_after_a_read_error_the_same_store_has_all_its_lines(store, monkeypatch):
    trial = digits_trial()
    write_record(store.folder(trial), trial)
    store.compact([trial])
    before = store.compact_path.read_bytes()
    (store.folder(trial) / "record.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(files, "open", refusing("records.jsonl", errno.EIO), raising=False)
        with pytest.raises(StoreError):
            store.compact([])
    store.compact([])
    assert store.compact_path.read_bytes() == before
    assert store.record(trial) is not None


def test_a_field_of_a_newer_version_is_kept(store, tmp_path):
    trial, other = digits_trial(), digits_trial(seed=5)
    record = write_record(store.folder(trial), trial, code="1" * 12)
    newer = {**record.to_json(), "energy": {"joules": 12.5}, "others": [1]}
    (store.folder(trial) / "record.json").write_text(json.dumps(newer))
    store.compact([trial])
    write_record(store.folder(other), other)
    later = Store(tmp_path, "tiny", "smoke")
    later.compact([other])
    later.replace(later.record(trial).signed("2" * 12))
    texts = [
        *store.compact_path.read_text().splitlines(),
        (store.folder(trial) / "record.json").read_text(),
    ]
    found = [values for values in map(json.loads, texts) if values["id"] == trial.id]
    assert len(found) == 2
    for values in found:
        assert values == newer | {"code": "2" * 12, "verified": ["1" * 12]}


def test_a_failed_trial_that_is_tried_again_keeps_its_checkpoint_and_what_failed(store, tmp_path):
    trial = digits_trial()
    folder = store.folder(trial)
    for number in (1, 2):
        write_record(folder, trial, status="failed", traceback=f"failure {number}")
        for name in ("checkpoint.pt", "log.txt", "metrics.jsonl"):
            (folder / name).write_text(name)
        store.compact([trial])
        store.retry(trial)
        assert store.record(trial) is None
        assert Store(tmp_path, "tiny", "smoke").record(trial) is None
    kept = {path.name: path.read_text() for path in folder.iterdir()}
    assert "failure 1" in kept.pop("record.failed.1.json")
    assert "failure 2" in kept.pop("record.failed.2.json")
    assert kept == {name: name for name in ("checkpoint.pt", "log.txt", "metrics.jsonl")}


ROUNDS = 8
TRIALS = [digits_trial(seed=100 + number) for number in range(4 * ROUNDS)]
"""Made here, so that the processes of `race` have imported what they need."""


def adds_a_record(folder, number, turn):
    """What a run does that is asked for rows of its own."""
    store, trial = Store(folder, "tiny", "smoke"), TRIALS[ROUNDS * number + turn]
    write_record(store.folder(trial), trial)
    store.compact([trial])
    return trial.id


@pytest.mark.parametrize("count", [2, 4])
def test_runs_of_different_rows_at_once_lose_none_of_each_others_records(tmp_path, count):
    made = race(adds_a_record, tmp_path, count=count, rounds=ROUNDS)
    lines = Store(tmp_path, "tiny", "smoke").compact_path.read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(chain(*made))


def test_a_run_that_was_killed_while_it_wrote_the_records_stops_nobody(store):
    trial = digits_trial()
    write_record(store.folder(trial), trial)
    claim = {"host": this_host(), "pid": 2**22 + 1, "updated": 0.0}
    (store.root / LOCK).write_text(json.dumps(claim))
    store.compact([trial])
    assert len(store.compact_path.read_text().splitlines()) == 1
    assert {path.name for path in store.root.iterdir()} == {"records.jsonl", "trials"}


def test_a_read_only_folder_with_nothing_to_change_is_no_error(store, monkeypatch):
    trial = digits_trial()
    write_record(store.folder(trial), trial)
    store.compact([trial])

    def refused(*_):
        raise OSError(errno.EROFS, "refused")

    monkeypatch.setattr(os, "open", refused)
    store.compact([trial])
    other = digits_trial(seed=3)
    write_record(store.folder(other), other)
    with pytest.raises(StoreError, match="Read-only"):
        store.compact([other])


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


def test_a_committed_record_reads_its_curve_again_where_it_is_asked_for(store, tmp_path):
    trial = digits_trial()
    curve = [{"epoch": n, "step": n, "val_accuracy": v} for n, v in ((1, 10.0), (2, 70.0), (3, 40))]
    record = write_record(tmp_path / "elsewhere", trial, metrics=curve)
    store.replace(record)
    read = Store(tmp_path, "tiny", "smoke").record(trial)
    assert "metrics" not in vars(read)
    assert (read.column("best_val"), read.column("final_val")) == (70.0, 40.0)
    assert "metrics" not in vars(read)
    copied = pickle.loads(pickle.dumps(read))
    assert read.metrics == copied.metrics == curve
    assert read == copied == record
    assert dataclasses.replace(read, code="").metrics == curve
    with pytest.raises(AttributeError, match="a record has no metric_s"):
        read.metric_s  # noqa: B018


def test_a_file_with_another_system_s_line_ends_is_read(store, tmp_path):
    trials = [digits_trial(seed=seed) for seed in (1, 2)]
    store.replace(*(write_record(tmp_path / "elsewhere", trial) for trial in trials))
    text = store.compact_path.read_bytes().replace(b"\n", b"\r\n")
    store.compact_path.write_bytes(text + b"\r\n" + text[:-2])
    read = Store(tmp_path, "tiny", "smoke")
    assert all(read.record(trial) is not None for trial in trials)
