"""Claims: one process at a time, whatever the others' clocks say, and whoever is killed."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nos_repro.experiments import heartbeat as module
from nos_repro.experiments.files import StoreError, scratch_for, this_host
from nos_repro.experiments.heartbeat import (
    STALE_SECONDS,
    Heartbeat,
    Witness,
    alone,
    beat_pause,
    live_leases,
    read_lease,
)
from tests.conftest import ROOT
from tests.racing import race

NO_PROCESS = 2**22 + 1
"""Linux numbers processes up to 2**22."""


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def leave(path: Path, **changes: Any) -> dict[str, Any]:
    """Writes a claim as a process of another host would."""
    claim = {"host": "elsewhere", "pid": 7, "updated": time.time(), "token": "abc", **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(claim))
    return claim


def holder(folder: Path) -> str:
    lease = read_lease(folder)
    assert lease is not None
    return lease.host


def test_a_claim_of_a_live_process_of_this_host_is_respected(tmp_path: Path) -> None:
    leave(tmp_path / "claim.json", host=this_host(), pid=os.getppid())
    assert not Heartbeat(tmp_path).take()


def test_a_claim_of_a_dead_process_of_this_host_is_taken_over_at_once(tmp_path: Path) -> None:
    leave(tmp_path / "claim.json", host=this_host(), pid=NO_PROCESS)
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    lease = read_lease(tmp_path)
    assert lease is not None
    assert lease.ours
    heartbeat.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("apart", [-864_000, -180, 0, 180, 864_000])
def test_a_live_claim_is_left_alone_whatever_its_hosts_clock_says(
    tmp_path: Path, apart: float
) -> None:
    clock = Clock()
    heartbeat = Heartbeat(tmp_path, witness=Witness(clock))
    for second in range(0, 1000, 10):
        leave(tmp_path / "claim.json", updated=clock.now + apart, step=second)
        assert not heartbeat.take()
        clock.wait(10)


@pytest.mark.parametrize("apart", [-864_000, -180, 0, 180, 864_000])
def test_a_dead_claim_is_taken_over_two_minutes_after_it_was_first_seen(
    tmp_path: Path, apart: float
) -> None:
    clock = Clock()
    leave(tmp_path / "claim.json", updated=clock.now + apart)
    heartbeat = Heartbeat(tmp_path, witness=Witness(clock))
    assert not heartbeat.take()
    clock.wait(STALE_SECONDS - 1)
    assert not heartbeat.take()
    clock.wait(2)
    assert heartbeat.take()
    heartbeat.release()


def test_who_is_killed_while_it_takes_over_is_followed_in_turn(tmp_path: Path) -> None:
    here = {"host": this_host(), "pid": NO_PROCESS}
    leave(tmp_path / "claim.json", **here, token="first")
    leave(tmp_path / ".claim.json.after-first.tmp", **here, token="second")
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    assert [path.name for path in tmp_path.iterdir()] == ["claim.json"]
    heartbeat.release()


def test_a_process_that_takes_over_now_is_left_alone(tmp_path: Path) -> None:
    leave(tmp_path / "claim.json", host=this_host(), pid=NO_PROCESS, token="first")
    leave(tmp_path / ".claim.json.after-first.tmp", token="second")
    assert not Heartbeat(tmp_path).take()
    assert len(list(tmp_path.iterdir())) == 2


# fmt: off
DAMAGED = [
    "{", "[]", "3", '{"host": "elsewhere"}', '{"host": "elsewhere", "pid": "7", "updated": 1}',
    '{"host": ["elsewhere"], "pid": 7, "updated": 1}', '{"host": "h", "pid": 7, "updated": "now"}',
    '{"host": "h", "pid": 7, "updated": 1, "token": "../../x"}', "\xff", "[" * 100_000,
    '{"host": "h", "pid": 7, "updated": 1e999}', '{"host": "h", "pid": 7, "updated": NaN}',
    '{"host": "h", "pid": 1' + "0" * 400 + ', "updated": 1}',
]
# fmt: on


@pytest.mark.parametrize("content", DAMAGED)
def test_a_file_that_is_no_claim_holds_nobody_up(tmp_path: Path, content: str) -> None:
    (tmp_path / "claim.json").write_text(content, encoding="latin-1")
    assert live_leases([tmp_path]) == {}
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    heartbeat.release()


def test_a_claim_that_is_being_made_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "claim.json").touch()
    heartbeat = Heartbeat(tmp_path, witness=Witness(clock))
    assert not heartbeat.take()
    clock.wait(STALE_SECONDS + 1)
    assert heartbeat.take()
    heartbeat.release()


def test_a_newer_versions_claim_is_one_too(tmp_path: Path) -> None:
    leave(tmp_path / "claim.json", colour="blue")
    assert holder(tmp_path) == "elsewhere"


def test_a_claim_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "claim.json").mkdir()
    with pytest.raises(StoreError, match=r"cannot read .*claim\.json"):
        Heartbeat(tmp_path).take()


def test_a_claim_on_a_folder_that_cannot_be_looked_at_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network file system fails for a moment: an error of the store, and nobody waits."""
    looked = os.stat

    def failing(path: Any, **named: Any) -> os.stat_result:
        if path == tmp_path and os.listdir(tmp_path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return looked(path, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", failing)
        with pytest.raises(StoreError, match="cannot read"):
            Heartbeat(tmp_path).take()
    assert read_lease(tmp_path) is None


APART = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
"""Runs a command as a container does: process numbers of its own, and the host's name."""
ELSEWHERE = """
import sys
from pathlib import Path
from nos_repro.experiments.files import remove_scratch
from nos_repro.experiments.heartbeat import Heartbeat
folder = Path(sys.argv[1])
remove_scratch(folder)
print(Heartbeat(folder).take())
"""


def test_a_container_of_the_same_name_does_not_take_a_live_process_for_dead(tmp_path: Path) -> None:
    if not shutil.which("unshare") or subprocess.run([*APART, "true"], check=False).returncode:
        pytest.skip("this machine makes no namespace of processes")
    scratch = scratch_for(tmp_path / "records.jsonl")
    scratch.touch()
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    words = [*APART, sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
    assert scratch.exists()
    heartbeat.release()


def test_a_claim_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write .*claim\.json"):
        Heartbeat(tmp_path / "file").take()


def test_a_claim_stays_fresh_while_a_step_or_an_evaluation_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.001)
    heartbeat = Heartbeat(tmp_path, steps=9)
    assert heartbeat.take()
    heartbeat.beat(7, {"val_accuracy": 50.0})
    first = read_lease(tmp_path)
    deadline = time.monotonic() + 60
    while (claim := read_lease(tmp_path)) == first or claim is None or claim.step != 7:
        assert time.monotonic() < deadline
    assert (claim.steps, claim.latest) == (9, {"val_accuracy": 50.0})
    heartbeat.release()


def test_a_claim_that_another_process_took_over_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 1e6)
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    leave(tmp_path / "claim.json")
    heartbeat.release()
    assert holder(tmp_path) == "elsewhere"


def test_a_long_trial_beats_every_half_minute_and_a_short_one_soon(tmp_path: Path) -> None:
    age, beats = 0.0, []
    while age < 3600:
        age += beat_pause(age)
        beats.append(age)
    assert beats[0] <= 1
    assert len(beats) <= 3600 / 30 + 6
    assert max(b - a for a, b in itertools.pairwise(beats)) <= 30 < STALE_SECONDS / 3


def test_a_beat_neither_creates_nor_renames_a_file_and_flushes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 1e6)
    heartbeat = Heartbeat(tmp_path, steps=9)
    assert heartbeat.take()
    first = read_lease(tmp_path)
    os.utime(tmp_path, (0, 0))
    file = (tmp_path / "claim.json").stat()
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    heartbeat.beat(7, {"val_accuracy": 50.0})
    heartbeat._refresh()
    after = (tmp_path / "claim.json").stat()
    assert (after.st_ino, after.st_size, tmp_path.stat().st_mtime) == (file.st_ino, file.st_size, 0)
    assert flushed == []
    again = read_lease(tmp_path)
    assert again is not None
    assert (again.step, again.steps) == (7, 9)
    assert again != first
    heartbeat.release()


def test_a_beat_leaves_the_claim_of_another_process_as_it_is(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path)
    assert heartbeat.take()
    leave(tmp_path / "claim.json")
    theirs = (tmp_path / "claim.json").read_bytes()
    heartbeat._refresh()
    assert (tmp_path / "claim.json").read_bytes() == theirs
    heartbeat.release()


def test_half_a_beat_is_read_again_and_not_taken_for_a_damaged_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path / "claim.json")
    reads = iter([b'{"host": "elsewh', (tmp_path / "claim.json").read_bytes()])
    monkeypatch.setattr(module, "read_file", lambda path: next(reads))
    assert holder(tmp_path) == "elsewhere"


def test_who_reads_while_a_claim_beats_never_sees_half_a_beat(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, steps=10**6)
    assert heartbeat.take()
    ended = threading.Event()

    def beat() -> None:
        for step in range(2000):
            heartbeat.beat(step, {"val_loss": step / 7})
            heartbeat._refresh()
        ended.set()

    beating = threading.Thread(target=beat)
    beating.start()
    while not ended.is_set():
        lease = read_lease(tmp_path)
        assert lease is not None
        assert lease.ours
    beating.join()
    heartbeat.release()


@pytest.mark.parametrize("their_clock", [0, -864_000, 864_000])
def test_a_reader_believes_the_clock_of_the_host_or_that_of_the_file_system(
    tmp_path: Path, their_clock: float
) -> None:
    now = time.time()
    fresh, old = tmp_path / "fresh", tmp_path / "old"
    for folder, beat in ((fresh, now), (old, now - STALE_SECONDS - 1)):
        leave(folder / "claim.json", updated=beat + their_clock)
        os.utime(folder / "claim.json", (beat, beat))
    assert live_leases([fresh, old], now=lambda: now).keys() == {fresh}
    os.utime(fresh / "claim.json", (0, 0))
    assert live_leases([fresh], now=lambda: now).keys() == ({fresh} if not their_clock else set())


def one_at_a_time(folder: Path, number: int, turn: int) -> bool:
    """Goes through the claim of the round's folder; False if it met another process inside."""
    here = folder / str(turn)
    with alone(here, "claim.json"):
        try:
            (here / "inside").touch(exist_ok=False)
        except FileExistsError:
            return False
        (here / "inside").unlink()
    return True


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("left", ["nothing", "a dead claim", "a killed heir", "no claim"])
def test_of_processes_that_begin_at_once_one_at_a_time_has_the_claim(
    tmp_path: Path, count: int, left: str
) -> None:
    here, rounds = {"host": this_host(), "pid": NO_PROCESS}, 15
    for folder in (tmp_path / str(turn) for turn in range(rounds)):
        if left == "a dead claim":
            leave(folder / "claim.json", **here)
        elif left == "a killed heir":
            leave(folder / "claim.json", **here, token="first")
            leave(folder / ".claim.json.after-first.tmp", **here, token="second")
        elif left == "no claim":
            leave(folder / "claim.json", pid="x")
    said = race(one_at_a_time, tmp_path, count=count, rounds=rounds)
    assert said == [[True] * count] * rounds
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
