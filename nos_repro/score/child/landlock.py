"""Linux's Landlock: the kernel refuses a process files, TCP and signals, native code included.

It needs no rights and cannot be taken back. Where the kernel lacks it, only the audit hook is left
(`guard`), which sees what Python's own functions do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

CREATE, ADD, RESTRICT = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
NO_NEW_PRIVILEGES = 38
EXECUTE, WRITE, READ, LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_DEVICES = 1 << 6 | 1 << 11
# fmt: off
RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights to files each version of the interface knows."""
# fmt: on
TCP, SCOPES = 3, 3
"""To bind and connect; abstract sockets and signals."""
NO_CODE = {"nos_repro", "sklearn"}
"""Packages that hold data sets, which are not opened as a whole."""
NEEDED = ("errors.py", "registry.py", "extras.py", "__init__.py", "rules", "optim", "score")
"""What a candidate may need from this package: not the data."""
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime",
          "/usr/share/zoneinfo", "/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo",
          "/sys/devices/system")  # fmt: skip


class Ruleset:
    """What processes may still do that `restrict` themselves: read code (and the ``others`` that
    are added), write in ``writable``, but open no TCP connection and signal nobody outside.

    ``version`` is that of the kernel's Landlock; 0 where there is none.
    """

    def __init__(self, writable: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.version: int = max(0, self._libc.syscall(CREATE, None, ctypes.c_size_t(0), 1))
        self._number = -1
        if not self.version:
            return
        rights = max(count for first, count in RIGHTS.items() if first <= self.version)
        self._every = (1 << rights) - 1
        attributes = struct.pack(
            "QQQ", self._every, TCP * (self.version >= 4), SCOPES * (self.version >= 6)
        )
        size = ctypes.c_size_t(8 * (1 + (self.version >= 4) + (self.version >= 6)))
        self._number = self._libc.syscall(CREATE, attributes, size, 0)
        self._allow(Path("/"), LIST)
        self.add({*code_places(), *map(Path, SYSTEM)})
        self._allow(writable, self._every & ~(EXECUTE | MAKE_DEVICES))
        self._allow(Path("/dev/null"), READ | WRITE)

    def add(self, others: Iterable[Path]) -> None:
        """These may be read too."""
        for path in others:
            self._allow(path, READ | EXECUTE | LIST)

    def restrict(self) -> int:
        """From here on this process, and all that it starts, may do no more. The version of
        Landlock; 0 where the kernel refuses it."""
        if self._number < 0:
            return 0
        self._libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        refused: int = self._libc.syscall(RESTRICT, self._number, 0)
        os.close(self._number)
        return 0 if refused else self.version

    def _allow(self, path: Path, rights: int) -> None:
        if self._number < 0:
            return
        with contextlib.suppress(OSError):
            place = os.open(path, os.O_PATH)
            allowed = rights if path.is_dir() else rights & ~LIST
            rule = struct.pack("=Qi", allowed & self._every, place)
            self._libc.syscall(ADD, self._number, 1, rule, 0)
            os.close(place)


def code_places() -> Iterator[Path]:
    """Where Python's own modules and the installed packages are, without their data sets."""
    paths = sysconfig.get_paths()
    for library in {paths["stdlib"], paths["platstdlib"]}:
        yield from (path for path in _inside(Path(library)) if not _is_packages(path))
    yield from (path for path in _inside(Path(sys.base_prefix) / "lib") if path.is_file())
    for entry in map(Path, filter(None, sys.path)):
        if _is_packages(entry):
            yield from (path for path in _inside(entry) if path.name not in NO_CODE)
    own = Path(__file__).parents[2]
    yield from (own / name for name in NEEDED)


def _is_packages(path: Path) -> bool:
    return path.name in ("site-packages", "dist-packages")


def _inside(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(folder.iterdir())
    return []
