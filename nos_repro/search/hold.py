"""One process at a time works in a search's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.claim import Heartbeat, read_claim


@contextmanager
def hold(folder: Path, steps: int = 0) -> Iterator[Heartbeat]:
    """Claims the folder while the block runs. Raises ConfigError where a live process has it."""
    heartbeat = Heartbeat(folder, steps)
    if not heartbeat.take():
        claim = read_claim(folder)
        who = f"process {claim.pid} on {claim.host}" if claim is not None else "another process"
        raise ConfigError(f"{folder}: {who} works there now; `report` shows how far it is")
    try:
        yield heartbeat
    finally:
        heartbeat.release()
