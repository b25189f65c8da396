"""What follows a trial while it is trained: injected, since this package imports no tracker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nos_repro.experiments.record import Record
from nos_repro.experiments.trial import Trial

CurveLines = Sequence[dict[str, float]]


class TrialFollower(Protocol):
    """What is told about one attempt at a trial."""

    def tell(self, curve: CurveLines) -> None:
        """Takes the whole curve so far, whenever it has grown."""

    def losses(self, first: int, losses: Sequence[float], steps: int) -> None:
        """Takes the training losses of the steps from ``first`` on, of ``steps`` in all, whenever
        the loop has looked at them. A resumed attempt may repeat some."""

    def end(self, record: Record) -> None:
        """How the trial ended, or where it pauses, once that is on disk. Not called for an attempt
        that is interrupted."""


class Tracker(Protocol):
    """Travels to workers by pickle. It handles its own errors: none may fail a trial."""

    def follow(self, trial: Trial, folder: Path) -> AbstractContextManager[TrialFollower]:
        """Follows one attempt at the trial in ``folder``."""
