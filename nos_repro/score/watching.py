"""What processes take, as Linux tells in /proc."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from pathlib import Path

PROC = Path("/proc")


def memory_taken(process: int) -> int:
    """Bytes that it shares with no other; 0 once it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = (PROC / str(process) / "statm").read_text(encoding="utf-8")
        resident, shared = (int(word) * mmap.PAGESIZE for word in text.split()[1:3])
        return resident - shared
    return 0


def files_kept(folder: Path, process: int) -> int:
    """Bytes of the files in a folder, and of those that a process has open, with a name or not."""
    sizes = {}
    for place in (folder, PROC / str(process) / "fd"):
        for where, _, names in os.walk(place):
            for name in names:
                with contextlib.suppress(OSError):
                    found = os.stat(os.path.join(where, name))
                    if stat.S_ISREG(found.st_mode):
                        sizes[found.st_dev, found.st_ino] = 512 * found.st_blocks
    return sum(sizes.values())


def processes_of(root: int, mark: str) -> set[int]:
    """The running processes that descend from another, or have ``mark`` in their environment."""
    parents, found = {}, set()
    for entry in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            number = int(entry.name)
            line = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            words = line.rpartition(")")[2].split()
            if words[0] == "Z":
                continue
            parents[number] = int(words[1])
            if mark.encode() in (entry / "environ").read_bytes():
                found.add(number)
    own = {root}
    while more := {number for number, parent in parents.items() if parent in own} - own:
        own |= more
    return (found | own) - {root}
