"""Who works on a trial: a heartbeat in the trial's folder, not a lock.

A second `run` sees the claim and waits instead of training the same trial. Should two ever train
one trial at once (a network file system may hide a claim for a moment), both write the same
bytes, each file in one rename: time is wasted, nothing is damaged.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nos_repro.experiments.files import write_atomically

STALE_SECONDS = 120.0
BEAT_SECONDS = 2.0


@dataclass(frozen=True)
class Claim:
    """A sign of life: which process trains the trial, and how far it is."""

    host: str
    pid: int
    updated: float
    step: int = 0
    steps: int = 0
    latest: dict[str, float] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process still seems to be there."""
        if time.time() - self.updated > STALE_SECONDS:
            return False
        return self.host != socket.gethostname() or _pid_exists(self.pid)

    @property
    def ours(self) -> bool:
        return self.host == socket.gethostname() and self.pid == os.getpid()


def read_claim(folder: Path) -> Claim | None:
    """The claim on a trial's folder, dead or alive; None where there is none (or it is torn)."""
    try:
        values: dict[str, Any] = json.loads((folder / "claim.json").read_text())
        return Claim(**values)
    except (FileNotFoundError, ValueError, TypeError):
        return None


class Heartbeat:
    """Holds the claim of this process on a trial and keeps it fresh."""

    def __init__(self, folder: Path, steps: int = 0) -> None:
        self.path = folder / "claim.json"
        self.steps = steps
        self._last = 0.0

    def take(self) -> bool:
        """Claims the trial; False where another live process has it."""
        held = read_claim(self.path.parent)
        if held is not None and held.alive and not held.ours:
            return False
        self.beat(0, None, force=True)
        held = read_claim(self.path.parent)
        return held is not None and held.ours

    def beat(self, step: int, latest: dict[str, float] | None, *, force: bool = False) -> None:
        """Says that step ``step`` is done; writes at most once in BEAT_SECONDS."""
        now = time.monotonic()
        if not force and now - self._last < BEAT_SECONDS:
            return
        self._last = now
        claim = Claim(socket.gethostname(), os.getpid(), time.time(), step, self.steps, latest)
        write_atomically(self.path, json.dumps(asdict(claim)).encode())

    def release(self) -> None:
        self.path.unlink(missing_ok=True)


def _pid_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
