"""Which process works on a trial: a heartbeat in the trial's folder, not a lock.

A second `run` sees the claim and waits instead of training the same trial. If two ever train one
trial at once (a network file system may hide a claim for a moment), both write the same bytes,
each file with one rename: time is wasted, but nothing is damaged.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nos_repro.experiments.files import StoreError, write_atomically

STALE_SECONDS = 120.0
BEAT_SECONDS = 2.0


@dataclass(frozen=True)
class Lease:
    """A sign of life: which process trains the trial, and how far it has come."""

    host: str
    pid: int
    updated: float
    step: int = 0
    steps: int = 0
    latest: dict[str, float] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process still seems to be alive."""
        if time.time() - self.updated > STALE_SECONDS:
            return False
        return self.host != socket.gethostname() or _pid_exists(self.pid)

    @property
    def ours(self) -> bool:
        return self.host == socket.gethostname() and self.pid == os.getpid()


def read_lease(folder: Path) -> Lease | None:
    """The claim on a trial's folder, dead or alive; None if there is none or it is unreadable.

    On NFS, reading a file while it is replaced sometimes fails (ESTALE).
    """
    try:
        values: dict[str, Any] = json.loads((folder / "claim.json").read_text(encoding="utf-8"))
        return Lease(**values)
    except (OSError, ValueError, TypeError):
        return None


class Heartbeat:
    """Holds the claim of this process on a trial and keeps it fresh, however long a step takes.

    A separate thread writes the claim: an evaluation of minutes, a first compile or a slow file
    system neither lets the claim expire nor delays the training.
    """

    def __init__(self, folder: Path, steps: int = 0) -> None:
        self.path = folder / "claim.json"
        self.steps = steps
        self._step = 0
        self._latest: dict[str, float] | None = None
        self._released = threading.Event()
        self._pulse: threading.Thread | None = None

    def take(self) -> bool:
        """Claims the trial; False if another live process has it. Raises StoreError."""
        held = read_lease(self.path.parent)
        if held is not None and held.alive and not held.ours:
            return False
        self.write()
        if not self._is_ours():
            return False
        self._pulse = threading.Thread(target=self._keep_fresh, daemon=True)
        self._pulse.start()
        return True

    def beat(self, step: int, latest: dict[str, float] | None) -> None:
        """Reports that step ``step`` is done; others see it within BEAT_SECONDS."""
        self._step, self._latest = step, latest

    def write(self) -> None:
        host, pid, now = socket.gethostname(), os.getpid(), time.time()
        claim = Lease(host, pid, now, self._step, self.steps, self._latest)
        write_atomically(self.path, json.dumps(asdict(claim)).encode())

    def release(self) -> None:
        """Ends the claim, unless another process has taken the trial over in the meantime."""
        self._released.set()
        if self._pulse is not None:
            self._pulse.join()
        if self._is_ours():
            self.path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        held = read_lease(self.path.parent)
        return held is not None and held.ours

    def _keep_fresh(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            # the trial's own writes will meet the same disk error and report it
            with contextlib.suppress(StoreError, OSError):
                held = read_lease(self.path.parent)
                if held is None or held.ours:
                    self.write()


def _pid_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
