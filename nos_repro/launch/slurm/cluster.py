"""What SLURM says: the states of jobs, and why one ended. A failed question is no answer."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nos_repro.errors import LaunchError
from nos_repro.launch.slurm.ledger import Message

COMMAND_SECONDS = 60
TAIL_LINES = 12

# fmt: off
LIVE = {
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD",
    "RESIZING", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED",
}
"""States of a job that goes on, or may. Done is not final: after the failure of a node or a
preemption SLURM may queue it again a moment later (`Watch` looks twice)."""

OUT_OF_MEMORY = re.compile(r"oom.?kill|out of memory|exceeded memory limit", re.IGNORECASE)

PASSING = (
    "unable to contact slurm controller", "socket timed out", "connection refused",
    "connection timed out", "temporarily", "communication connection failure", "zero bytes",
    "slurm_receive_msg", "unexpected message", "backup controller", "job submit limit",
    "submit limit", "maxsubmit", "slurmdbd",
)
"""In an error of sbatch: it may well do in a minute."""
# fmt: on


@dataclass(frozen=True)
class Kind:
    """How a job that ended without a word is judged."""

    outcome: str
    words: str


# fmt: off
KINDS = {
    "OUT_OF_MEMORY": Kind("lost",      "out of memory ({memory}): raise launcher.memory_gb"),
    "TIMEOUT":       Kind("timed_out", "reached its time limit ({hours:g} h) and could not save in"
                                       " time: raise launcher.hours or launcher.signal_seconds"),
    "DEADLINE":      Kind("timed_out", "reached its deadline"),
    "CANCELLED":     Kind("cancelled", "somebody cancelled it"),
    "REVOKED":       Kind("cancelled", "another cluster took it"),
    "NODE_FAIL":     Kind("lost",      "its node failed, and SLURM did not queue it again"),
    "BOOT_FAIL":     Kind("lost",      "its node did not start"),
    "PREEMPTED":     Kind("lost",      "it was preempted, and SLURM did not queue it again"),
}
# fmt: on
SILENT = Kind("lost", "its process ended without a word (SLURM says {state})")


def states(arrays: Iterable[str]) -> dict[str, str] | None:
    """SLURM's state of every pack of these arrays that it still knows; None: no answer."""
    ids = ",".join(sorted(set(arrays)))
    if not ids:
        return {}
    text = _ask(
        "squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--jobs={ids}"
    )
    return None if text is None else _parse(text)


def find_by_name(name: str) -> str | None:
    """The number of the array of that name, "" for none; None: no answer."""
    text = _ask("squeue", "--noheader", "--states=all", "--format=%F", f"--name={name}")
    if text is None:
        return None
    return next(iter(text.split()), "")


def own_state(job: str) -> str | None:
    """The state of the job that this process is; None: no answer."""
    text = _ask("squeue", "--noheader", "--format=%T", f"--jobs={job}")
    return text.strip() if text and text.strip() else None


def cancel(tasks: Iterable[str]) -> None:
    """Takes jobs off the cluster. Raises LaunchError where SLURM does not answer."""
    ids = sorted(set(tasks))
    for start in range(0, len(ids), 500):
        if _ask("scancel", *ids[start : start + 500]) is None:
            raise LaunchError("scancel: SLURM does not answer; try again in a while")


def throttle(array: str, tasks: int) -> None:
    """Sets how many jobs of an array may run at a time; where that fails it stays as it is."""
    _ask("scontrol", "update", f"JobId={array}", f"ArrayTaskThrottle={tasks}")


def final_state(task: str) -> str:
    """How a job that is not in the queue any more ended, by the accounting; "UNKNOWN" without."""
    import submitit  # late: `status` asks for live jobs only

    watcher = submitit.SlurmJob.watcher
    return watcher.get_state(task, mode="force").split()[0].rstrip("+")


def judge(state: str, log: str, memory_gb: float | None, hours: float) -> Message:
    """What is said of a job that ended in ``state`` without having reported."""
    memory = "no launcher.memory_gb" if memory_gb is None else f"{memory_gb:g} GB asked for"
    kind = KINDS.get(state, SILENT)
    if kind.outcome == "lost" and OUT_OF_MEMORY.search(log):
        kind = KINDS["OUT_OF_MEMORY"]
    words = kind.words.format(memory=memory, hours=hours, state=state)
    return Message(kind.outcome, words, log)  # type: ignore[arg-type]


def tail(*paths: Path) -> str:
    """The last lines of the first of these files that says something."""
    for path in paths:
        try:
            lines = path.read_bytes()[-20_000:].decode(errors="replace").splitlines()
        except OSError:
            continue
        if said := [line.rstrip() for line in lines if line.strip()]:
            return "\n".join(said[-TAIL_LINES:])
    return ""


def passing(error: str) -> bool:
    """Whether an error of sbatch is one to wait out."""
    return any(words in error.lower() for words in PASSING)


def _parse(text: str) -> dict[str, str]:
    lines = (line.strip().partition("|") for line in text.splitlines() if "|" in line)
    return {task: state for task, _, state in lines}


def _ask(*command: str) -> str | None:
    """What a SLURM command prints; None where it fails. An unknown job is an answer: nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "invalid job id" not in done.stderr.lower():
        return None
    return done.stdout
