"""The files of data sets: which count, how they are read, and what is said if they cannot be."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nos_repro.errors import DataError

LEFT_BEHIND = frozenset({
    "__macosx", "icon\r",                                             # macOS
    "thumbs.db", "ehthumbs.db", "desktop.ini",                        # Windows
    "$recycle.bin", "system volume information",
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot",  # a NAS
    "lost+found",
})  # fmt: skip
"""What systems leave in folders without being asked, in lower case."""


def belongs(name: str) -> bool:
    """Whether a file or folder of that name belongs to a data set: False for hidden ones, and for
    what a NAS or another system leaves behind."""
    return not name.startswith(".") and name.lower() not in LEFT_BEHIND


@contextmanager
def refusals_named(where: object) -> Iterator[None]:
    """Makes an OSError a DataError that names the file, or `where` if the error names none."""
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str | bytes) else str(where)
        advice = "copy it again, or name another folder with --data DIR or NOS_REPRO_DATA"
        if error.errno in (errno.EACCES, errno.EPERM):
            advice = "make it readable for you"
        raise DataError(f"{os.fsdecode(name)}: {error.strerror or error}\n  {advice}") from error


def read_file(path: str | Path) -> bytes:
    """The content of a file. Raises OSError, also for a pipe or a device, which may never end."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            return file.read()
    except OSError as error:
        error.filename = str(path)
        raise


def _open_at_once(path: str, flags: int) -> int:
    """Opens a pipe without waiting for someone to write into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
