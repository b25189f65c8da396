"""The contract of a launcher: it takes jobs and reports the outcome of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

JobOutcome = Literal["recorded", "held"]
JobEnding = Literal[
    "recorded", "held", "lost", "overran", "stopped", "timed_out", "cancelled", "blocked"
]


class Job(Protocol):
    """Something to run, in its own folder. It is pickled to reach other processes."""

    @property
    def folder(self) -> Path:
        """Where it writes its results, each file whole or not at all."""

    @property
    def label(self) -> str:
        """A few words that describe it, for progress and logs."""

    @property
    def identity(self) -> str:
        """What distinguishes it from all other jobs of its study or search; it is the same in every
        process that asks for the same work."""

    @property
    def limit_seconds(self) -> float | None:
        """If it runs longer than this, its process is killed. None: no limit."""

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        """Does the work; returns the outcome, and what the user should know.

        If ``stop`` returns True, it saves its state and raises Stopped. Raises StoreError if the
        disk fails.
        """

    def is_done(self) -> bool:
        """Whether its result is on disk."""


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Report(Generic[J]):
    """The outcome of a job.

    ``recorded``: its result is on disk. ``held``: another live process has it. ``lost``: the
    worker vanished, or broke outside the work; when tried again, the job continues from its
    checkpoint. ``overran``: it was killed at its time limit. ``stopped``: it was asked to stop and
    saved its state. ``timed_out``: the cluster's time limit is too short for it. ``cancelled``: it
    was cancelled on the cluster. ``blocked``: the disk failed, the message says how. ``detail`` is
    the end of its log, if that helps.
    """

    job: J
    outcome: JobEnding
    message: str = ""
    detail: str = ""


class Launcher(Protocol[J]):
    """Runs jobs somewhere. Not thread-safe; one driver uses one launcher."""

    word: str
    """What to call the jobs that were handed over and have not ended, such as "running"."""

    @property
    def free(self) -> int:
        """How many more jobs may be submitted now."""

    def submit(self, job: J) -> None: ...

    def wait(self, seconds: float) -> list[Report[J]]:
        """The reports of jobs that ended; waits at most ``seconds`` for the first."""

    def close(self) -> list[Report[J]]:
        """Stops. Jobs on this machine are asked to save their state and waited for; jobs on a
        cluster continue there."""
