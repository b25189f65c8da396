"""The contract of a launcher: it is handed jobs and says, in time, what became of each."""

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
    """Something to run, in a folder of its own. It travels to other processes by pickle."""

    @property
    def folder(self) -> Path:
        """Where it writes what it found, each file whole or not at all."""

    @property
    def label(self) -> str:
        """What it is, in a few words, for progress and logs."""

    @property
    def identity(self) -> str:
        """What tells it from all other jobs of its study or search; the same in every process
        that asks for the same work."""

    @property
    def limit_seconds(self) -> float | None:
        """Longer than this it may not run: its process is killed. None: as long as it takes."""

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        """Does the work; what came of it, and what the user should know.

        Asked to ``stop`` it saves its state and raises Stopped. Raises StoreError where the disk
        refuses.
        """

    def is_done(self) -> bool:
        """Whether its result is on disk."""


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Report(Generic[J]):
    """What became of a job.

    ``recorded``: its result is on disk. ``held``: another live process has it. ``lost``: the
    worker vanished, or broke outside the work; the job goes on from its checkpoint when tried
    again. ``overran``: it was killed at its time limit. ``stopped``: it was asked to stop and
    saved its state. ``timed_out``: the time that a cluster gave it is too short. ``cancelled``:
    somebody took it off the cluster. ``blocked``: the disk refused, the message says how.
    ``detail`` is the end of its log, where that tells more.
    """

    job: J
    outcome: JobEnding
    message: str = ""
    detail: str = ""


class Launcher(Protocol[J]):
    """Runs jobs somewhere. Not thread-safe; one driver uses one launcher."""

    word: str
    """What the jobs that were handed over and have not ended are: "running", say."""

    @property
    def free(self) -> int:
        """How many more jobs may be submitted now."""

    def submit(self, job: J) -> None: ...

    def wait(self, seconds: float) -> list[Report[J]]:
        """The jobs that ended; waits at most ``seconds`` for the first of them."""

    def close(self) -> list[Report[J]]:
        """Lets go of everything. What runs on this machine is asked to save its state, and waited
        for; what a cluster has goes on there."""
