"""A trial's checkpoint: everything that the rest of the run depends on, in one file."""

from __future__ import annotations

import io
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nos_repro.experiments.files import write_atomically

VERSION = 1


class Checkpoints:
    """Saves the state of a run at most every ``every_seconds``, and finds it again.

    If several processes train a trial together, one of them ``writes``; the others never save.
    """

    def __init__(self, folder: Path, every_seconds: float = 60.0, *, writes: bool = True) -> None:
        self.path = folder / "checkpoint.pt"
        self.every_seconds = every_seconds
        self.writes = writes
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return self.writes and time.monotonic() - self._last >= self.every_seconds

    def save(self, state: dict[str, Any]) -> None:
        """Writes ``state`` with one rename. Raises StoreError if the disk refuses."""
        if not self.writes:
            return
        buffer = io.BytesIO()
        torch.save({"version": VERSION, **state}, buffer)
        write_atomically(self.path, buffer.getvalue())
        self._last = time.monotonic()

    def load(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """The saved state; None if there is none.

        A damaged checkpoint is set aside as `checkpoint.corrupt.pt`, ``warn`` is told, and the
        trial starts over: its numbers depend only on its settings, so only time is lost.
        """
        if not self.path.exists():
            return None
        try:
            return read_checkpoint(self.path)
        except DamagedCheckpoint as error:
            aside = self.path.with_name("checkpoint.corrupt.pt")
            self.path.replace(aside)
            warn(f"{self.path} is corrupt ({error}); kept as {aside.name}, the trial starts over")
            return None


class DamagedCheckpoint(Exception):
    """A checkpoint file does not hold a state that this version of the code has saved."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in the file; its checksums are verified. Raises DamagedCheckpoint and OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()
        if torn is not None:
            raise ValueError(f"checksum of {torn} is wrong")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version = state.get("version")
    except OSError:
        raise
    except (ValueError, TypeError, AttributeError, RuntimeError, EOFError,
            pickle.UnpicklingError, zipfile.BadZipFile) as error:  # fmt: skip
        raise DamagedCheckpoint(str(error)) from None
    if version != VERSION:
        raise DamagedCheckpoint(f"version {version}, this code reads {VERSION}")
    return state


def random_state() -> dict[str, Any]:
    """The global generators that a model's dropout draws from."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
