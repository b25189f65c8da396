"""Files that are complete or absent, even after `kill -9`, a full disk or a second writer."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from nos_repro.errors import NosError

SCRATCH_SECONDS = 3600.0
"""A scratch file older than this has lost its writer."""


class StoreError(NosError):
    """The results folder cannot be written: the machine's fault. Nothing half-written is left."""

    status = 1


def write_atomically(path: Path, data: bytes) -> None:
    """Writes ``path`` so that a reader sees the old content or the new one, never a mixture.

    Raises StoreError if the file system refuses (full, read-only, no permission).
    """
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
            raise
        raise StoreError(
            f"cannot write {path}: {os.strerror(error.errno)}\n"
            "  nothing is lost: fix that and run the same command again; it continues from its"
            " checkpoints"
        ) from None


def remove_scratch(folder: Path) -> None:
    """Removes what killed writers have left; a younger scratch file may be in use."""
    for scratch in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - scratch.stat().st_mtime > SCRATCH_SECONDS:
                scratch.unlink()


def write_json(path: Path, values: Any) -> None:
    write_atomically(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def json_line(values: Any) -> str:
    """One line of a `.jsonl` file, the same bytes for the same values."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"
