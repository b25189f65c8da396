"""Who follows a trial from outside while it is trained: handed in, for this room knows nobody."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nos_repro.experiments.record import Record
from nos_repro.experiments.trial import Trial

CurveLines = Sequence[dict[str, float]]


class TrialFollower(Protocol):
    """What is told of one attempt at a trial."""

    def tell(self, curve: CurveLines) -> None:
        """The curve so far, whole, whenever it has grown."""

    def end(self, record: Record) -> None:
        """How the trial ended, or where it pauses, once that is on disk. An attempt that is
        interrupted says nothing of the kind."""


class Tracker(Protocol):
    """Travels to workers by pickle. Whatever goes wrong in it is its own: no trial fails by it."""

    def follow(self, trial: Trial, folder: Path) -> AbstractContextManager[TrialFollower]:
        """Follows one attempt at the trial in ``folder``."""
