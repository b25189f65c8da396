"""What a worker does, wherever it runs: it runs a job, such as a trial, and reports the outcome."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nos_repro.errors import no_exit
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import StoreError
from nos_repro.experiments.runner import has_record, run_trial
from nos_repro.experiments.tracker import Tracker
from nos_repro.experiments.training import Stopped
from nos_repro.experiments.trial import Trial
from nos_repro.launch.base import J, JobOutcome, Report

log = logging.getLogger(__name__)

PRIMITIVES = 64
"""Compiled primitives that oneDNN keeps in a worker."""


@dataclass(frozen=True)
class TrialJob:
    """A trial, its folder and conditions, where it pauses, and its tracker (`run_trial`)."""

    trial: Trial
    folder: Path
    conditions: Conditions
    limit_seconds: float | None = None
    until: int | None = None
    rungs: tuple[int, ...] = ()
    tracker: Tracker | None = None

    @property
    def label(self) -> str:
        return self.trial.label()

    @property
    def identity(self) -> str:
        return self.trial.id if self.until is None else f"{self.trial.id}@{self.until}"

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        """Trains it to its record, from its checkpoint if it has one (`run_trial`)."""
        outcome, notes = run_trial(
            self.trial,
            self.folder,
            self.conditions,
            stop=stop,
            until=self.until,
            rungs=self.rungs,
            tracker=self.tracker,
        )
        return outcome, "; ".join(notes)

    def is_done(self) -> bool:
        return has_record(self.trial, self.folder, self.until)


def run_job(job: J, stop: Callable[[], bool]) -> Report[J]:
    """Runs the job in this process. What the job raises becomes a report, except KeyboardInterrupt
    and what ends the process."""
    try:
        with no_exit():
            return Report(job, *job.run(stop))
    except Stopped:
        return Report(job, "stopped")
    except StoreError as error:
        return Report(job, "blocked", str(error))
    except Exception as error:
        log.exception("%s", job.label)
        return Report(job, "lost", f"{type(error).__name__}: {error}")


def keep_freed_memory() -> None:
    """Makes glibc keep the large blocks that tensors free, instead of faulting them in again.

    This makes CPU training steps 1.4 to 3.6 times as fast. For workers and the command line only: a
    library must not do this to its host. No effect with other C libraries.

    oneDNN caches a compiled primitive for each shape it meets, up to 1,024 of them; sequences have
    a new shape at almost every step, which costs gigabytes per worker. A small cache is as fast.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRIMITIVES))
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
