"""Shared by the tests on a real SLURM: which cluster they may use, and a study to run there."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nos_repro.experiments.heartbeat import read_lease
from tests.conftest import ROOT
from tests.launch.study import TINY

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}
"""Of every process these tests start; `python` in slurm/*.sh is the one that runs the tests."""
LAUNCHER = ("launcher=slurm", "launcher.memory_gb=2", "launcher.poll_seconds=1")
PATIENCE = 600

STUDY: dict[str, Any] = {
    **TINY,
    "training": {"epochs": 2},
    "sweep": {"lr": [0.005, 0.01, 0.02, 0.05]},
    "selection": {"repeats": 2},
}
"""Twelve short trials."""

ELSEWHERE: dict[str, Any] = {
    "kernels": {"name": "torch.optim.Muon", "flatten": True},
    "biases": "schedulefree.SGDScheduleFree",
    "rest": {"name": "torch.optim.NAdam", "betas": [0.9, 0.95]},
}
WITH_ELSEWHERE = {
    **STUDY,
    "rows": {**TINY["rows"], "split": {"optimizer": {"split": ELSEWHERE}}},
}
"""Six more, of a split among optimizers that do not ship."""

LONG = {
    **STUDY,
    "task": {"name": "tests.experiments.replicated", "dropout": 0.1},
    "training": {"epochs": 200, "evaluate_every": 10},
    "sweep": {"lr": [0.02]},
    "selection": {"repeats": 0},
    "launcher": {"setup": ["export SLOW=0.02"]},
}
"""Two trials of twelve seconds on the cluster, whatever else the machine does, and of none here:
long enough to be disturbed."""


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def reason_to_skip() -> str:
    """Why these tests do not run here; "" if they do.

    They drain a node and kill slurmctld, so they need a SLURM on this machine owned by this user.
    """
    settings = _ask("scontrol", "show", "config")
    lines = dict(line.split("=", 1) for line in settings.splitlines() if "=" in line)
    config = {key.strip(): value.strip() for key, value in lines.items()}
    if not config:
        return "no SLURM here (no `scontrol`, or no slurmctld that answers)"
    own = config.get("SlurmUser", "").startswith(f"{getpass.getuser()}(")
    here = socket.gethostname().split(".")[0] in config.get("SlurmctldHost[0]", "")
    return "" if own and here else "this SLURM is not a private one: these tests would disturb it"


on_slurm = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "there is a SLURM")


def write_study(folder: Path, study: dict[str, Any] = STUDY, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**study, **changes}))
    return path


def command(verb: str, config: Path, results: Path, *words: str) -> list[str]:
    given = [verb, str(config), "--scale", "smoke", "--results", str(results), *words]
    return [sys.executable, "-m", "nos_repro", *given]


def run(verb: str, config: Path, results: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a verb to its end, which must come."""
    return subprocess.run(
        command(verb, config, results, *words),
        capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE,
    )  # fmt: skip


class FrontEnd:
    """`run` in the background, and what it prints."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, status: int = 0) -> str:
        """Waits for its end, which must have that status; returns all that it printed."""
        self.process.wait(PATIENCE)
        said = self.log.read_text()
        assert self.process.returncode == status, said
        return said


@contextlib.contextmanager
def front_end(config: Path, results: Path, *words: str) -> Iterator[FrontEnd]:
    """`run` in the background, killed at the end of the block if it is still running."""
    log = config.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen(
            command("run", config, results, *words), stdout=file, stderr=file, env=ENVIRONMENT
        )
    front = FrontEnd(process, log)
    try:
        yield front
    finally:
        front.kill()


def trials(results: Path) -> Path:
    return results / "tiny/smoke/trials"


def metrics(results: Path) -> dict[str, bytes]:
    return {f.parent.name: f.read_bytes() for f in sorted(trials(results).glob("*/metrics.jsonl"))}


def records(results: Path) -> dict[str, dict[str, Any]]:
    """The records by trial, without anything that varies from run to run."""
    lines = (results / "tiny/smoke/records.jsonl").read_text().splitlines()
    moody = ("seconds", "examples_per_second", "memory_gb")
    found = {}
    for line in lines:
        record = json.loads(line)
        found[record["id"]] = {key: value for key, value in record.items() if key not in moody}
    return found


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Waits for a true value of ``what`` and returns it; fails if that takes too long."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return value


def training(results: Path) -> list[int]:
    """The processes that are training a trial and have saved its state at least once."""
    found = []
    for folder in trials(results).glob("*"):
        claim = read_lease(folder)
        if claim is not None and claim.step > 0 and (folder / "checkpoint.pt").exists():
            found.append(claim.pid)
    return found


def tasks(*states: str) -> list[str]:
    """SLURM's numbers of the jobs in these states."""
    text = _ask("squeue", "--noheader", "--array", "--format=%i", f"--states={','.join(states)}")
    return text.split()


class Witness:
    """Checks, five times per second, whether two processes train one trial at the same time."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.held: dict[str, list[int]] = {}
        self.twice: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        assert not self.twice

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            for folder in trials(self.results).glob("*"):
                claim = read_lease(folder)
                if claim is None:
                    continue
                before = self.held.setdefault(folder.name, [])
                alive = [pid for pid in before if pid != claim.pid and _lives(pid)]
                if alive and read_lease(folder) == claim:
                    self.twice.append(f"{folder.name}: {claim.pid} while {alive} live")
                if claim.pid not in before:
                    before.append(claim.pid)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
