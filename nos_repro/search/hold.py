"""One process at a time works in a search's folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.heartbeat import STALE_SECONDS, Heartbeat, read_lease

IN_A_JOB = "SLURM_JOB_ID"
"""A controller that is a SLURM job itself may come after one that was killed hard on another host,
whose claim only time tells from that of a living one."""


@contextmanager
def hold(folder: Path, steps: int = 0) -> Iterator[Heartbeat]:
    """Claims the folder while the block runs. Raises ConfigError where a live process has it."""
    heartbeat = Heartbeat(folder, steps)
    deadline = time.monotonic() + (STALE_SECONDS + 10 if IN_A_JOB in os.environ else 0)
    while not (taken := heartbeat.take()) and time.monotonic() < deadline:
        time.sleep(5)
    if not taken:
        claim = read_lease(folder)
        who = f"process {claim.pid} on {claim.host}" if claim is not None else "another process"
        raise ConfigError(f"{folder}: {who} works there now; `report` shows how far it is")
    try:
        yield heartbeat
    finally:
        heartbeat.release()
