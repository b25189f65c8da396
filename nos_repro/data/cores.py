"""The processor cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

PROC, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def available_cores() -> int:
    """How many cores this process may keep busy: those that it is pinned to, or the quota of its
    container or job if that is less (rounded up)."""
    return max(1, math.ceil(min([pinned_cores(), *_quotas()])))


def pinned_cores() -> int:
    """How many cores this process may run on, whatever its quota."""
    return len(core_numbers()) or os.cpu_count() or 1


def core_numbers() -> list[int]:
    """The numbers of the cores that this process may run on; [] where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _quotas() -> Iterator[float]:
    """The quotas of this process's control groups, in cores.

    The groups around its own limit it, too. A container sees its own group as the root, though
    `/proc/self/cgroup` may name it from outside: a folder that is not there has no quota.
    """
    try:
        lines = PROC.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            group = CGROUPS / controllers / path.strip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(CGROUPS):
                    yield from _quota_of(folder)


def _quota_of(folder: Path) -> Iterator[float]:
    """The quota of one group, as version 2 or version 1 of the kernel's interface states it."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text("ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text("ascii")
            period = (folder / "cpu.cfs_period_us").read_text("ascii")
        if quota != "max" and int(quota) > 0:  # -1: none
            yield int(quota) / int(period)
    except (OSError, ValueError):
        return
