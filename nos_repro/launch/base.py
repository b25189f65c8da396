"""The contract of a launcher: it is handed trials and says, in time, what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from nos_repro.experiments.trial import Trial


@dataclass(frozen=True)
class Job:
    """A trial and the folder it runs in."""

    trial: Trial
    folder: Path


@dataclass(frozen=True)
class Report:
    """What became of a job.

    ``recorded``: its record is on disk. ``held``: another live process has the trial. ``lost``:
    the worker vanished, or broke outside the training; the trial goes on from its checkpoint when
    tried again. ``stopped``: it was asked to stop and saved its state. ``blocked``: the disk
    refused, the message says how.
    """

    job: Job
    outcome: Literal["recorded", "held", "lost", "stopped", "blocked"]
    message: str = ""


class Launcher(Protocol):
    """Runs jobs somewhere. Not thread-safe; one driver uses one launcher."""

    @property
    def free(self) -> int:
        """How many more jobs may be submitted now."""

    def submit(self, job: Job) -> None: ...

    def wait(self, seconds: float) -> list[Report]:
        """The jobs that ended; waits at most ``seconds`` for the first of them."""

    def close(self) -> list[Report]:
        """Asks what runs to save its state, waits for it, and frees everything."""
