"""Files that are complete or absent, even after `kill -9`, a full disk or a second writer."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import os
import re
import socket
import stat
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

from nos_repro.errors import NosError

T = TypeVar("T")

SCRATCH_SECONDS = 3600.0
"""A scratch file of another host that is older than this has lost its writer."""
READ_TRIES = 3
"""Over NFS, a file that is replaced while it is opened is stale; its name leads to the new one."""
FIRST_NAMESPACE = 0xEFFFFFFC
"""Linux's number for the processes of a host that are in no container (PROC_PID_INIT_INO)."""
LONG_NAME = 128
"""A file system takes names of 255 bytes, and a scratch file adds its writer to its name."""


class StoreError(NosError):
    """The results folder cannot be read or written: the machine's fault. Nothing half-written is
    left, and nothing is written on the strength of what could not be read."""

    status = 1


def read_file(path: Path | str) -> bytes | None:
    """The content of a file; None if there is no such file, and only then.

    Raises StoreError if it cannot be read: to take that for an absent file would lose it.
    """

    def read() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    return _if_there(path, read)


def read_with(path: Path | str, read: Callable[[IO[bytes]], T]) -> T | None:
    """What ``read`` makes of a file that it reads part by part; None if there is no such file.

    Raises StoreError if it cannot be read, whatever ``read`` makes of that, else what it raises.
    """

    def attempt() -> T:
        with open(path, "rb", 0) as raw, io.BufferedReader(_Watched(raw)) as file:
            watched = file.raw
            try:
                return read(file)
            except Exception:
                if watched.refusal is not None:
                    raise watched.refusal from None
                raise

    return _if_there(path, attempt)


class _Watched(io.RawIOBase):
    """A file that remembers why it could not be read: libraries hide that behind errors of their
    own."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.refusal: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int | None:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            self.refusal = error
            raise


def is_there(path: Path) -> bool:
    """Whether the file exists. Raises StoreError if that cannot be found out."""
    return _if_there(path, path.stat) is not None


def identity(folder: Path) -> tuple[int, int] | None:
    """What tells this folder from another one of the same name; None if there is none. Raises
    StoreError."""
    found = _if_there(folder, folder.stat)
    return None if found is None else (found.st_dev, found.st_ino)


def file_names(folder: Path) -> list[str]:
    """What is in a folder; [] if there is no such folder. Raises StoreError."""
    return _if_there(folder, lambda: os.listdir(folder)) or []


def _if_there(path: Path | str, read: Callable[[], T]) -> T | None:
    for left in reversed(range(READ_TRIES)):
        try:
            return read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ESTALE or not left:
                raise StoreError(
                    f"cannot read {path}: {os.strerror(error.errno or 0)}\n"
                    "  nothing was changed: fix that and run the same command again"
                ) from None
    raise AssertionError


def rename(path: Path, other: Path) -> None:
    """Gives a file another name. Raises StoreError."""
    try:
        path.replace(other)
    except OSError as error:
        raise unwritable(other, error) from None


def unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {os.strerror(error.errno or 0)}\n"
        "  nothing is lost: fix that and run the same command again; it continues from its"
        " checkpoints"
    )


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Writes ``path`` so that a reader sees the old content or the new one, never a mixture.

    Where ``path`` is a symbolic link, its target is written; a device or a pipe takes the bytes as
    they are. Raises StoreError if the system refuses (full, read-only, no permission).
    """
    try:
        if _is_stream(path):
            _write_into(path, data)
        else:
            _replace(path.resolve() if path.is_symlink() else path, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(path, error) from None


def _replace(path: Path, data: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_for(path)
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise


def _is_stream(path: Path) -> bool:
    """Whether it is a device, a pipe, or what this process prints to (`/dev/stdout`)."""
    try:
        found = path.stat()
    except OSError:
        return False
    if stat.S_ISDIR(found.st_mode):
        return False
    return not stat.S_ISREG(found.st_mode) or _printed_to(path, found) is not None


def _write_into(path: Path, data: bytes | memoryview) -> None:
    number = _printed_to(path, path.stat())
    if number is None:
        path.write_bytes(data)
        return
    sys.stdout.flush()
    with open(os.dup(number), "wb") as stream:
        stream.write(data)


def _printed_to(path: Path, found: os.stat_result) -> int | None:
    """The number of the stream of this process that a link such as `/dev/stdout` leads to."""
    for number in (1, 2) if path.is_symlink() else ():
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(number), found):
                return number
    return None


@functools.cache
def this_host() -> str:
    """Where a process number means something: the host, and the container if it numbers its
    processes itself, since containers may share their host's name."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):  # not Linux
        space = os.stat("/proc/self/ns/pid").st_ino
        if space != FIRST_NAMESPACE:
            return f"{name}-{space}"
    return name


def scratch_for(path: Path) -> Path:
    """A new name beside ``path`` that says which process writes there (`remove_scratch`)."""
    name = path.name if len(os.fsencode(path.name)) < LONG_NAME else "long"
    writer = f"{this_host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{name}.{writer}.tmp")


def remove_scratch(folder: Path, held: str = "") -> None:
    """Removes what killed writers have left: at once if they were processes of this host, after
    SCRATCH_SECONDS if of another. ``held`` is a file that nobody but the caller writes now: all
    scratch of that goes."""
    left: list[Path] = []
    with contextlib.suppress(OSError):  # it only tidies up
        left = list(folder.glob(".*.tmp"))
    for scratch in left:
        mine = bool(held) and scratch.name.startswith(f".{held}.")
        with contextlib.suppress(OSError):
            if mine or _is_left(scratch):
                scratch.unlink()


def _is_left(scratch: Path) -> bool:
    """Whether nobody writes this file any more."""
    here = rf"\.{re.escape(this_host())}\.(\d+)\.[0-9a-f]{{8}}\.tmp$"
    if writer := re.search(here, scratch.name):
        return not process_exists(int(writer[1]))
    return time.time() - scratch.stat().st_mtime > SCRATCH_SECONDS


def process_exists(pid: int) -> bool:
    """Whether this host has a process of that number."""
    if pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_json(path: Path, values: Any) -> None:
    write_atomically(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def read_json(data: bytes) -> Any:
    """The value that JSON text holds. Raises ValueError for anything else: what nests without end,
    NaN and infinities too, which JSON does not have."""
    try:
        return json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def json_line(values: Any) -> str:
    """One line of a `.jsonl` file, the same bytes for the same values."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"
