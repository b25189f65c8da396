"""Why SLURM does not start a job, in the words of squeue, and what helps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

# fmt: off
NORMAL = re.compile(
    r"None|Priority|Resources|JobArrayTaskLimit|BeginTime|Cleaning|Prolog|SchedDefer|NodesBusy"
    r"|Licenses|Dependency|Reservation|BurstBuffer.*|PowerNotAvail|PowerReserved|"
)
"""Reasons of a job that starts when its turn comes."""

STUCK = {
    r"PerJob|PerNode|QOSMin|MaxMemPerLimit":
        "a job asks for more or less than its QOS or account allows: launcher.hours, nodes, gpus,"
        " cpus, memory_gb or qos",
    r"Partition(Time|Node)Limit|PartitionConfig":
        "a job asks for more than its partition allows: launcher.hours, nodes or partition",
    r"Grp(?!\w*Run)\w*Minutes|GrpWall|UsageThreshold|TimeLimit$":
        "the account's budget of hours is used up: launcher.account or qos",
    r"PartitionDown|PartitionInactive":
        "its partition is closed: launcher.partition, or wait for your administrators",
    r"ReqNodeNotAvail|NodeDown|FrontEndDown|DOWN, DRAINED":
        "all nodes that it could run on are down, drained or reserved (see `sinfo -R`):"
        " launcher.partition or constraint, or wait for your administrators",
    r"BadConstraints":
        "no node has what it asks for: launcher.constraint, gpus, cpus or memory_gb",
    r"JobHeldAdmin":
        "an administrator holds it: ask them why",
    r"launch failed|JobHoldMaxRequeue|JobLaunchFailure|SystemFailure":
        "SLURM could not start it on its node and holds it: tell your administrators, then"
        " `scontrol release` it",
    r"[Hh]eld":
        "it is held: `scontrol release` it",
    r"InvalidAccount|AccountNotAllowed":
        "launcher.account",
    r"InvalidQOS|QOSNotAllowed":
        "launcher.qos",
    r"DependencyNeverSatisfied|ReservationDeleted|DeadLine":
        "what it waits for will not come: launcher.sbatch",
}
"""Reasons of a job that does not start until somebody does something, and what."""

LIMITS = re.compile(r"(QOS|Assoc|Max)\w+")
"""Reasons of a job that starts when others of the same user, account or QOS have ended."""
# fmt: on


class Wait(NamedTuple):
    """Why a job waits: SLURM's reason, whether the job will start by itself, and what helps."""

    reason: str
    starts: bool = True
    help: str = ""

    def __str__(self) -> str:
        verdict = "" if self.starts else ", which does not pass by itself"
        return f"{self.reason}{verdict}" + (f": {self.help}" if self.help else "")


def explain(reason: str) -> Wait:
    """What a reason of squeue means. One that is not known here is passed on as it is."""
    if NORMAL.fullmatch(reason):
        return Wait(reason)
    for pattern, words in STUCK.items():
        if re.search(pattern, reason):
            return Wait(reason, False, words)
    others = "starts when other jobs of the user, account or QOS have ended"
    return Wait(reason, True, others if LIMITS.fullmatch(reason) else "")


def notes(reasons: Iterable[str]) -> dict[str, str]:
    """For each reason that is not normal, how many jobs wait for it, in words."""
    return {
        reason: f"{jobs} SLURM job{' waits' if jobs == 1 else 's wait'}: {explain(reason)}"
        for reason, jobs in Counter(reasons).items()
        if not NORMAL.fullmatch(reason)
    }
