"""A search's folder: where it is, which settings it holds, and which process is working in it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError
from nos_repro.experiments.files import read_file, read_json, write_json
from nos_repro.experiments.heartbeat import (
    STALE_SECONDS,
    WITNESS,
    Heartbeat,
    Lease,
    Witness,
    read_lease,
)
from nos_repro.search.log import Log
from nos_repro.search.settings import Search

log = logging.getLogger(__name__)

IN_A_JOB = "SLURM_JOB_ID"
"""A controller that is a SLURM job itself may follow one that is still at its last words."""
LOOK_SECONDS = 5.0
"""The time between two looks at another process's claim."""
LOOKS = 2 * int(STALE_SECONDS / LOOK_SECONDS)


def folder_of(search: Search, results: Path) -> Path:
    return results / search.search / search.scale


def check_settings(search: Search, folder: Path) -> None:
    """Saves the settings of a new search, or those that its log tells if the file was lost; raises
    ConfigError if the folder has other settings."""
    before = read_settings(folder)
    if before is not None:
        check_same(before, search, folder)
        return
    check_same(_logged_settings(folder), search, folder)
    write_json(folder / "settings.json", search.identity())


def check_same(before: Any, search: Search, folder: Path) -> None:
    """Raises ConfigError if these settings of the folder's search, if any are known, are not the
    ones that are asked for now."""
    changes = (
        [] if before is None else differences(*map(search.completed, (before, search.identity())))
    )
    if changes:
        raise ConfigError(
            f"{folder} holds a search with other settings:\n  "
            + "\n  ".join(changes)
            + "\n  set them back, or use another --results or another name (search: NAME)"
        )


def _logged_settings(folder: Path) -> Any:
    """The settings of the log's last session; None if there is no log yet. Raises ConfigError for
    the log of an older version, which does not tell them."""
    events = list(Log(folder / "log.jsonl").read(note=log.warning))
    if not events:
        return None
    told = [event["settings"] for event in events if "settings" in event]
    if not told:
        raise ConfigError(
            f"{folder / 'settings.json'} is missing, and the log beside it does not say with which"
            " settings its search was begun\n  restore the file from a copy, or use another"
            " --results"
        )
    return told[-1]


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings that the folder's search was begun with; None if there is none yet.

    Raises ConfigError if they are damaged, StoreError if they cannot be read.
    """
    path = folder / "settings.json"
    data = read_file(path)
    if data is None:
        return None
    try:
        values = read_json(data)
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
def hold(
    folder: Path,
    steps: int = 0,
    *,
    witness: Witness = WITNESS,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Heartbeat]:
    """Claims the folder while the block runs. Raises ConfigError if a live process has it.

    A process of another host may have been killed, and the number of one of this host, if it has
    been silent for STALE_SECONDS, given to another: its claim is watched until it changes, or has
    been the same for STALE_SECONDS.
    """
    heartbeat = Heartbeat(folder, steps, witness=witness)
    first = read_lease(folder)
    for look in range(LOOKS):
        if heartbeat.take():
            break
        claim = read_lease(folder)
        if _is_at_work(claim, first) or look == LOOKS - 1:
            who = f"process {claim.pid} on {claim.host}" if claim is not None else "another process"
            raise ConfigError(f"{folder}: {who} is working there; `report` shows how far it is")
        if look == 0:
            minutes = STALE_SECONDS / 60
            log.warning("%s: a process of another host, or one that is silent, has claimed it;"
                        " watching for up to %.0f minutes whether it still works there",
                        folder, minutes)  # fmt: skip
        wait(LOOK_SECONDS)
    try:
        yield heartbeat
    finally:
        heartbeat.release()


def _is_at_work(claim: Lease | None, first: Lease | None) -> bool:
    if IN_A_JOB in os.environ or claim is None:
        return False
    beats = claim.here and time.time() - claim.updated < STALE_SECONDS
    return beats or claim != first
