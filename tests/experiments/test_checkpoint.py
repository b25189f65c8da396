"""Checkpoints: what saving may cost, and what several processes read of one file."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nos_repro.experiments import checkpoint as module
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.files import StoreError
from nos_repro.experiments.training import STATE
from tests.conftest import ROOT


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def saves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, costs: list[float], every: float
) -> list[float]:
    """The times, from the start of the trial, of the ends of saves that cost so many seconds."""
    clock, pending, ends = Clock(), iter(costs), []
    checkpoints = Checkpoints(folder, every, clock=clock)

    def slow(path: Path, data: bytes) -> None:
        clock.now += next(pending)

    monkeypatch.setattr(module, "write_atomically", slow)
    for _ in costs:
        while not checkpoints.due:
            clock.now += 0.5
        checkpoints.save({})
        ends.append(clock.now - 1000)
    return ends


@pytest.mark.parametrize("cost", [0.01, 1.0, 7.5, 60.0])
def test_saving_takes_two_percent_of_the_time_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float
) -> None:
    ends = saves(tmp_path, monkeypatch, [cost] * 20, every=60)
    assert 19 * cost / (ends[-1] - ends[0]) <= 0.0201
    assert min(b - a for a, b in itertools.pairwise(ends)) >= 60


def test_a_cheap_checkpoint_is_saved_as_often_as_asked_and_a_delay_of_the_disk_is_no_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, delayed, after, last = saves(tmp_path, monkeypatch, [0.1, 30, 0.1, 0.1], every=60)
    assert first <= 61
    assert delayed - first <= 91
    assert after - delayed <= 61
    assert last - after <= 61


def test_every_zero_seconds_saves_whatever_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert saves(tmp_path, monkeypatch, [5.0, 5.0, 5.0], every=0) == [5.0, 10.0, 15.0]


def state(megabytes: int = 1) -> dict[str, object]:
    rows = {str(n): torch.full((2**18,), float(n)) for n in range(megabytes)}
    return {
        "model": rows, "optimizer": {}, "schedule": {}, "random": {}, "epoch": 1, "batch": 2,
        "history": [], "seconds": 3.0, "loss_total": 0.5,
    }  # fmt: skip


def test_each_process_reads_the_very_checkpoint_that_the_leader_found(tmp_path: Path) -> None:
    leader, other = Checkpoints(tmp_path), Checkpoints(tmp_path, writes=False)
    leader.save(state(3))
    found = leader.load(pytest.fail, STATE)
    assert found is not None
    again = other.load_sealed(leader.seal())
    assert again.keys() == found.keys()
    for name, values in found["model"].items():
        assert torch.equal(again["model"][name], values)


@pytest.mark.parametrize("there", ["another", "damaged", "none"])
def test_a_process_that_does_not_see_the_leaders_checkpoint_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """As a folder that a node does not share; NFS may be a minute behind, so it is waited for."""
    leader = Checkpoints(tmp_path / "leader")
    leader.save(state(2))
    clock = Clock()
    other = Checkpoints(tmp_path / "other", writes=False, clock=clock)
    if there == "another":
        Checkpoints(tmp_path / "other").save(state(1))
    elif there == "damaged":
        (tmp_path / "other").mkdir()
        other.path.write_bytes(b"PK nothing")
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(time, "sleep", wait)
    with pytest.raises(StoreError, match="is not what the leading process reads there"):
        other.load_sealed(leader.seal())
    assert sum(waited) >= 60


MEMORY = """
import sys
from pathlib import Path
import torch
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.training import STATE

def now(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))

checkpoints = Checkpoints(Path(sys.argv[1]))
seal = checkpoints.seal()
warm = Checkpoints(Path(sys.argv[2])).load(print, STATE)
before = now("VmRSS")
if sys.argv[3] == "follower":
    kept = checkpoints.load_sealed(seal)
else:
    kept = checkpoints.load(print, STATE)
print(now("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_reading_a_checkpoint_takes_its_size_in_memory_once(tmp_path: Path, role: str) -> None:
    Checkpoints(tmp_path / "large").save(state(80))
    Checkpoints(tmp_path / "small").save(state(1))
    words = [sys.executable, "-c", MEMORY, str(tmp_path / "large"), str(tmp_path / "small"), role]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 70 < float(told.stdout) < 100
