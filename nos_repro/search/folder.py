"""A search's folder: where it is, which settings it holds, and which process is working in it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError
from nos_repro.experiments.files import write_json
from nos_repro.experiments.heartbeat import STALE_SECONDS, Heartbeat, read_lease
from nos_repro.search.log import read_if_there
from nos_repro.search.settings import Search

IN_A_JOB = "SLURM_JOB_ID"
"""A controller that is a SLURM job itself may follow one that was killed on another host; only time
tells whether the old claim is still alive."""


def folder_of(search: Search, results: Path) -> Path:
    return results / search.search / search.scale


def check_settings(search: Search, folder: Path) -> None:
    """Saves the settings of a new search; raises ConfigError if the folder has other settings."""
    now = search.identity()
    before = read_settings(folder)
    if before is None:
        write_json(folder / "settings.json", now)
        return
    changes = list(differences(before, now))
    if changes:
        raise ConfigError(
            f"{folder} holds a search with other settings:\n  "
            + "\n  ".join(changes)
            + "\n  set them back, or use another --results or another name (search: NAME)"
        )


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings that the folder's search was begun with; None if there is none yet.

    Raises ConfigError if they are damaged, StoreError if they cannot be read.
    """
    path = folder / "settings.json"
    data = read_if_there(path)
    if data is None:
        return None
    try:
        values = json.loads(data)
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): restore it from a copy") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is damaged (not an object): restore it from a copy")
    return values


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """`key.path: was A, is B` for every setting that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        parts = ((f"{where}.{key}" if where else key, key) for key in keys)
        return [
            line for path, key in parts for line in differences(before.get(key), now.get(key), path)
        ]
    return [] if before == now else [f"{where}: was {json.dumps(before)}, is {json.dumps(now)}"]


@contextmanager
def hold(folder: Path, steps: int = 0) -> Iterator[Heartbeat]:
    """Claims the folder while the block runs. Raises ConfigError if a live process has it."""
    heartbeat = Heartbeat(folder, steps)
    deadline = time.monotonic() + (STALE_SECONDS + 10 if IN_A_JOB in os.environ else 0)
    while not (taken := heartbeat.take()) and time.monotonic() < deadline:
        time.sleep(5)
    if not taken:
        claim = read_lease(folder)
        who = f"process {claim.pid} on {claim.host}" if claim is not None else "another process"
        raise ConfigError(f"{folder}: {who} is working there; `report` shows how far it is")
    try:
        yield heartbeat
    finally:
        heartbeat.release()
