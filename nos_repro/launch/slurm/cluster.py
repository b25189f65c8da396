"""What SLURM says: the states of jobs, and why a job ended. A failed query gives no answer."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nos_repro.errors import LaunchError
from nos_repro.launch.base import JobEnding
from nos_repro.launch.slurm.ledger import JobArray, Message

COMMAND_SECONDS = 60
TAIL_LINES = 12

# fmt: off
LIVE = {
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD",
    "RESIZING", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED",
}
"""States of a job that is going on, or may go on. An end is not final: after a node failure or a
preemption SLURM may queue the job again a moment later, so look twice."""

OUT_OF_MEMORY = re.compile(r"oom.?kill|out of memory|exceeded memory limit", re.IGNORECASE)

PASSING = (
    "unable to contact slurm controller", "socket timed out", "connection refused",
    "connection timed out", "temporarily", "communication connection failure", "zero bytes",
    "slurm_receive_msg", "unexpected message", "backup controller", "slurmdbd",
)
"""In an error of sbatch: it may succeed in a minute."""

POLICY = re.compile(r"\b(QOS|Assoc|Max)[A-Z]\w+")
"""In an error of sbatch: the limit that refuses the job. Without one, its last line says of every
policy that it may be the submit limit."""
COUNTED = re.compile(r"SubmitJob|MaxJobCount", re.IGNORECASE)
"""In the name of a limit on how many jobs are queued: fewer may be accepted, or these later."""

HINTS = {
    "submitjob":                  "launcher.trials_per_job or launcher.array_size",
    "submit limit":               "launcher.trials_per_job or launcher.array_size",
    "invalid job array":          "launcher.array_size (MaxArraySize of `scontrol show config`)",
    "partition":                  "launcher.partition",
    "account":                    "launcher.account",
    "qos":                        "launcher.qos",
    "node configuration":         "launcher.gpus, cpus, memory_gb or nodes: no node has that",
}
# fmt: on


@dataclass(frozen=True)
class Kind:
    """The verdict on a job that ended without reporting."""

    outcome: JobEnding
    words: str


# fmt: off
KINDS = {
    "OUT_OF_MEMORY": Kind("lost",      "out of memory ({memory}): raise launcher.memory_gb"),
    "TIMEOUT":       Kind("lost",      "killed at its time limit ({hours:g} h) before it had saved:"
                                       " raise launcher.hours or launcher.signal_seconds"),
    "DEADLINE":      Kind("timed_out", "reached its deadline"),
    "CANCELLED":     Kind("cancelled", "it was cancelled"),
    "REVOKED":       Kind("cancelled", "another cluster took it"),
    "NODE_FAIL":     Kind("lost",      "its node failed, and SLURM did not queue it again"),
    "BOOT_FAIL":     Kind("lost",      "its node did not start"),
    "PREEMPTED":     Kind("lost",      "it was preempted, and SLURM did not queue it again"),
}
# fmt: on
SILENT = Kind("lost", "its process ended without a message (SLURM says {state})")
OURS = {"FAILED", "COMPLETED", "OUT_OF_MEMORY", "TIMEOUT"}
"""States in which a job that ended before its first line may itself be to blame."""


class TaskState(NamedTuple):
    """What squeue says of a pack: its state, and why it waits. Empty if it is not there."""

    state: str = ""
    reason: str = ""

    @property
    def alive(self) -> bool:
        return self.state in LIVE


GONE = TaskState()
Standings = Mapping[tuple[str, int], TaskState]
"""By the batch's name and the pack's place."""


def standings(batches: Iterable[JobArray]) -> Standings | None:
    """What SLURM says of every pack of these batches that it still knows; None: no answer.

    Packs are matched by number and name: numbers come again when a cluster is set up again or has
    lost its state, so that two batches may have the same one.
    """
    names = {(batch.array, batch.name) for batch in batches if batch.array is not None}
    if not names:
        return {}
    ids = f"--jobs={','.join(sorted({str(array) for array, _ in names}))}"
    text = _ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%j", ids)
    if text is None:
        return None
    found = {}
    for line in text.splitlines():
        if line.count("|") < 3:
            continue
        task, state, reason, name = line.strip().split("|", 3)
        array, _, pack = task.partition("_")
        if (array, name) in names and (pack or "0").isdigit():
            found[name, int(pack or 0)] = TaskState(state, reason)
    return found


def find_by_name(name: str) -> str | None:
    """The number of the array with that name, "" if there is none; None: no answer."""
    text = _ask("squeue", "--noheader", "--states=all", "--format=%F", f"--name={name}")
    if text is None:
        return None
    return next(iter(text.split()), "")


def own_state(task: str) -> tuple[str, float | None]:
    """The state of the job that this process runs in ("" for no answer), and the seconds left until
    its time limit (None: no limit, or unknown)."""
    text = (_ask("squeue", "--noheader", "--format=%T|%L", f"--jobs={task}") or "").split()
    if len(text) != 1:
        return "", None
    state, _, left = text[0].partition("|")
    return state, _seconds(left)


def cancel(tasks: Iterable[str]) -> None:
    """Cancels jobs. Raises LaunchError if SLURM does not do it."""
    ids = sorted(set(tasks))
    for start in range(0, len(ids), 500):
        done = _run("scancel", *ids[start : start + 500])
        if done is None or done.returncode:
            said = done.stderr.strip() if done is not None else "SLURM does not answer"
            raise LaunchError(f"scancel: {said}")


def throttle(array: str, tasks: int) -> None:
    """Sets how many jobs of an array may run at a time; if that fails, the limit is unchanged."""
    _ask("scontrol", "update", f"JobId={array}", f"ArrayTaskThrottle={tasks}")


def final_state(task: str) -> str:
    """How a job that has left the queue ended, by SLURM's accounting; "UNKNOWN" without that."""
    import submitit  # late: `status` asks only about live jobs

    watcher = submitit.SlurmJob.watcher
    return watcher.get_state(task, mode="force").split()[0].rstrip("+")


def judge(state: str, log: str, memory_gb: float | None, hours: float) -> Message:
    """The message for a job that ended in ``state`` without reporting."""
    memory = "no launcher.memory_gb" if memory_gb is None else f"{memory_gb:g} GB asked for"
    kind = KINDS.get(state, SILENT)
    if kind.outcome == "lost" and OUT_OF_MEMORY.search(log):
        kind = KINDS["OUT_OF_MEMORY"]
    return Message(kind.outcome, kind.words.format(memory=memory, hours=hours, state=state), log)


def tail(paths: Iterable[Path]) -> str:
    """The last lines of the first of these files that has any text."""
    for path in paths:
        try:
            lines = path.read_bytes()[-20_000:].decode(errors="replace").splitlines()
        except OSError:
            continue
        if said := [line.rstrip() for line in lines if line.strip()]:
            return "\n".join(said[-TAIL_LINES:])
    return ""


def passing(error: str) -> bool:
    """Whether an error of sbatch will pass by itself."""
    return any(words in error.lower() for words in PASSING)


def limit(error: str) -> str:
    """The limit on how many jobs are queued that an error of sbatch is about; "" if none."""
    named = POLICY.search(error)
    if named is not None:
        return named[0] if COUNTED.search(named[0]) else ""
    return "the submit limit" if "submit limit" in error.lower() else ""


def hint(error: str) -> str:
    """A hint at the keys that an error of sbatch is about; "" if unknown."""
    about = [keys for words, keys in HINTS.items() if words in error.lower()]
    return f"\n  look at {about[0]}" if about else ""


def _seconds(left: str) -> float | None:
    """`1-02:03:04`, `02:03:04` or `03:04` in seconds."""
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", left)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _ask(*command: str) -> str | None:
    """What a SLURM command prints; None if it fails. If SLURM does not know the requested job (any
    more), that is an answer: nothing."""
    done = _run(*command)
    if done is None:
        return None
    if done.returncode and "invalid job id specified" not in done.stderr.lower():
        return None
    return done.stdout


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace",
            timeout=COMMAND_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
