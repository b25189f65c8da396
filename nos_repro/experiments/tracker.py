"""Who follows a trial from outside while it is trained: handed in, for this room knows nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nos_repro.experiments.trial import Trial

Curve = Sequence[dict[str, float]]


class Tracker(Protocol):
    """Travels to workers by pickle. Whatever goes wrong in it is its own: no trial fails by it."""

    def follow(self, trial: Trial, folder: Path) -> AbstractContextManager[Callable[[Curve], None]]:
        """What is to be told the curve so far, whole, whenever it has grown."""
