"""The log: appended to, on disk before an event takes effect, and checked when read."""

import builtins
import errno
import io
import json
import os
from functools import partial

import pytest

from nos_repro.experiments.files import StoreError, json_line
from nos_repro.search.hall import best_rules
from nos_repro.search.log import FIELDS, Log, LogError
from nos_repro.search.side_runs import read_side_runs
from tests.search.helpers import loop

EVENT = {"event": "withdrawn", "sample": 3, "reason": "gone"}


def test_what_is_appended_is_read_back_in_order(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.append([{**EVENT, "sample": n} for n in range(3)])
    start = log.size
    log.append([{**EVENT, "sample": 3}])
    assert [event["sample"] for event in log.read()] == [0, 1, 2, 3]
    assert [event["sample"] for event in log.read(start)] == [3]
    assert log.size == log.path.stat().st_size


def test_a_log_that_is_not_there_is_empty(tmp_path):
    log = Log(tmp_path / "nowhere" / "log.jsonl")
    assert list(log.read()) == []
    assert log.open() is None


@pytest.mark.parametrize("cut", range(1, len(json_line(EVENT)), 7))
def test_a_line_torn_at_any_byte_is_cut_off_and_reported(tmp_path, cut):
    log = Log(tmp_path / "log.jsonl")
    log.append([EVENT])
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + whole[:cut])
    again = Log(log.path)
    assert "torn" in again.open()
    assert log.path.read_bytes() == whole
    assert again.size == len(whole)


def test_a_last_line_with_a_hole_in_it_is_torn_too(tmp_path):
    """After a power failure a file may keep its length and lose a block."""
    log = Log(tmp_path / "log.jsonl")
    log.append([EVENT, EVENT])
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[: len(whole) - 20] + b"\0" * 19 + b"\n")
    assert "torn" in Log(log.path).open()
    assert list(Log(log.path).read()) == [EVENT]


@pytest.mark.parametrize(
    "line",
    ["", "no JSON", "[]", "{}", '{"event": "unheard of"}', '{"event": "withdrawn", "sample": "x"}'],
)
def test_a_damaged_line_in_the_middle_is_named(tmp_path, line):
    log = Log(tmp_path / "log.jsonl")
    good = json.dumps(EVENT)
    log.path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(LogError, match=r"log\.jsonl, line 2"):
        list(log.read())


def test_lines_are_counted_from_the_file_s_beginning_wherever_reading_starts(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.append([EVENT])
    with log.path.open("a") as file:
        file.write("damaged\n")
    with pytest.raises(LogError, match="line 2"):
        list(log.read(log.size))


def test_every_kind_of_event_says_what_it_must_hold():
    kinds = ["evaluated", "named", "proposed", "raced", "reopened", "session", "staged"]
    assert sorted(FIELDS) == [*kinds, "trained", "updated", "withdrawn"]


@pytest.mark.parametrize("name", ["log.jsonl", "named.jsonl", "settings.json"])
@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_read_error_is_one_error_and_never_an_empty_search(tmp_path, monkeypatch, name, code):
    """As a network file system gives for a moment: nothing is drawn, trained or written."""
    loop(tmp_path).run()
    Log(tmp_path / "named.jsonl").append([{"event": "session", "workers": 1, "code": ""}])
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}
    opened = io.open

    def stale(file, *given, **named):
        if str(file).endswith(name):
            raise OSError(code, os.strerror(code), str(file))
        return opened(file, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(io, "open", stale)  # what Path.open calls
        patch.setattr(builtins, "open", stale)
        read = partial(read_side_runs, tmp_path) if name[0] == "n" else loop(tmp_path).run
        with pytest.raises(StoreError, match=f"cannot read .*{name}"):
            read()
    after = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}
    assert after == before


def result(**more):
    event = {"event": "evaluated", "sample": 0, "reward": 0.5, "status": "healthy", "rule": "g"}
    return {**event, "key": "k", "lr": 0.1, **more}


@pytest.mark.parametrize(
    "more",
    [
        {"reward": float("nan")},
        {"reward": float("inf")},
        {"reward": 10**400},
        {"reward": True},
        {"sample": 10**30},
        {"sample": True},
        {"lr": "0.1"},
        {"seconds": "36"},
        {"metrics": [1]},
        {"metrics": {"val_accuracy": "x"}},
        {"sweep": 3},
    ],
    ids=str,
)
def test_a_result_whose_values_are_no_numbers_is_named(tmp_path, more):
    log = Log(tmp_path / "log.jsonl")
    log.path.write_text(json.dumps(result(**more)) + "\n")
    with pytest.raises(LogError, match=r"log\.jsonl, line 1"):
        list(log.read())
    named = {"event": "named", "purpose": "baseline", "name": "a", "optimizer": "sgd", "seed": 0}
    odd = {k: v for k, v in result(**more).items() if k not in ("event", "sample", "rule", "key")}
    if "sample" not in more:
        (tmp_path / "named.jsonl").write_text(json.dumps({**named, "evaluation": odd}) + "\n")
        with pytest.raises(LogError, match=r"named\.jsonl"):
            read_side_runs(tmp_path)


@pytest.mark.parametrize(
    "event",
    [
        {"event": "session", "workers": 1, "code": "", "libraries": 3},
        {"event": "updated", "policy": 1, "samples": [0], "entropy": "high"},
    ],
    ids=str,
)
def test_what_an_event_may_hold_has_its_type_too(tmp_path, event):
    log = Log(tmp_path / "log.jsonl")
    log.path.write_text(json.dumps(event) + "\n")
    with pytest.raises(LogError, match=r"log\.jsonl, line 1: '(libraries|entropy)' is invalid"):
        list(log.read())


def test_a_line_that_nests_without_end_is_damaged(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.path.write_text("[" * 100_000 + "\n" + json.dumps(EVENT) + "\n")
    with pytest.raises(LogError, match=r"log\.jsonl, line 1"):
        list(log.read())


def test_a_reward_of_a_rule_that_the_log_does_not_have_is_one_error(tmp_path):
    Log(tmp_path / "log.jsonl").append([result()])
    with pytest.raises(LogError, match="sample 0 has a reward"):
        best_rules(tmp_path, 1)


@pytest.mark.parametrize(
    ("number", "sound"),
    [
        ("9223372036854775807", True), ("9223372036854775808", False),
        ("-9223372036854775808", False),
        ("18446744073709551616", False), ("1e999", False), ("1E+400", False), ("1e+022", True),
        ("123456789012345678", True), ("0.1234567890123456789", True),
    ],
)  # fmt: skip
def test_a_number_that_no_search_writes_is_refused_however_it_is_written(tmp_path, number, sound):
    log = Log(tmp_path / "log.jsonl")
    line = f'{{"event":"updated","more":{number},"policy":1,"samples":[0]}}\n'
    log.path.write_text(line)
    if sound:
        assert [event["policy"] for event in log.read()] == [1]
        return
    with pytest.raises(LogError, match=r"line 1: (holds a number|is not an event)"):
        list(log.read())


def test_a_reason_with_a_file_name_that_is_not_utf_8_is_read_back(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.open()
    event = {"event": "withdrawn", "sample": 0, "reason": "no file \udcff"}
    log.append([event])
    assert list(log.read()) == [event]
