"""The processor cores that this process may use."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PROC, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
TASKS_HERE = ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE")
"""Variables that say how many processes a job has on this machine."""


def available_cores() -> int:
    """How many cores this process may keep busy: those that it is pinned to, or the quota of its
    container or job if that is less (rounded up)."""
    return max(1, math.ceil(min([pinned_cores(), *_quotas()])))


def pinned_cores() -> int:
    """How many cores this process may run on, whatever its quota."""
    return len(core_numbers()) or os.cpu_count() or 1


def core_numbers(process: int = 0) -> list[int]:
    """The numbers of the cores that a process (0: this one) may run on; [] where the system does
    not tell."""
    return sorted(os.sched_getaffinity(process)) if hasattr(os, "sched_getaffinity") else []


def cores_per_gpu(gpus: int, environment: Mapping[str, str] = os.environ) -> int:
    """How many cores serve the GPU that this process trains on: an equal part of what there is for
    the ``gpus`` that it sees, or for the processes of its job on this machine if these are more.

    What there is: `SLURM_CPUS_PER_TASK` for each of SLURM's tasks; else what the parent may use,
    within the quota, since a launcher that pins this process has pinned it to its part already. The
    processes: `LOCAL_WORLD_SIZE` (torchrun), or SLURM's tasks per node.
    """
    own = available_cores()
    tasks = max(1, *(_number(environment.get(name, "")) for name in TASKS_HERE))
    if asked := _number(environment.get("SLURM_CPUS_PER_TASK", "")):
        return max(1, min(own, asked // max(1, gpus // tasks)))
    try:
        around = len(core_numbers(os.getppid()))
    except OSError:  # it is gone, or another user's
        around = own
    shared = math.ceil(min([max(around, own), *_quotas()]))
    return max(1, min(own, shared // max(gpus, tasks)))


def _number(text: str) -> int:
    """The number that a variable begins with, such as `8(x2)`; 0 if there is none."""
    found = re.match(r"\d{1,9}", text)
    return int(found[0]) if found else 0


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
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
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
    except (OSError, ValueError, ArithmeticError):
        return
