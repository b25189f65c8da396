"""A trial as a job: what a study hands to a launcher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nos_repro.experiments.build import Conditions
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.tracker import Tracker
from nos_repro.experiments.trial import Trial
from nos_repro.launch.base import JobOutcome


@dataclass(frozen=True)
class TrialJob:
    """A trial, the folder it runs in, what it runs under, where it pauses, and who follows it
    (`run_trial`)."""

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
