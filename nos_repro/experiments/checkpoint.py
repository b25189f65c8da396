"""A trial's checkpoint: everything that the rest of the run depends on, in one file."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from nos_repro.experiments.files import read_file, rename, write_atomically

VERSION = 1

MISFITS = (LookupError, TypeError, ValueError, AttributeError, RuntimeError)
"""What modules, optimizers and schedules raise for a state that is not theirs."""

Kind = type | tuple[type, ...]


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

    def load(self, warn: Callable[[str], None], holds: Mapping[str, Kind]) -> dict[str, Any] | None:
        """The saved state; None if there is none. Raises StoreError if it cannot be read.

        A damaged checkpoint, or one that does not hold what it should, is set aside.
        """
        try:
            return read_checkpoint(self.path, holds)
        except DamagedCheckpoint as error:
            self.set_aside(str(error), warn)
            return None

    def set_aside(self, why: str, warn: Callable[[str], None]) -> None:
        """Keeps a checkpoint that is of no use as `checkpoint.corrupt.pt`; ``warn`` is told.

        The trial starts over: its numbers depend only on its settings, so only time is lost.
        """
        aside = self.path.with_name("checkpoint.corrupt.pt")
        rename(self.path, aside)
        warn(f"{self.path} is corrupt ({why}); kept as {aside.name}, the trial starts over")


class DamagedCheckpoint(Exception):
    """A checkpoint file does not hold a state that this version of the code has saved."""


def read_checkpoint(path: Path, holds: Mapping[str, Kind]) -> dict[str, Any] | None:
    """The state in the file, which ``holds`` values of these types; None if there is no file. Its
    checksums are verified. Raises DamagedCheckpoint and StoreError."""
    data = read_file(path)
    if data is None:
        return None
    try:
        state = _state_in(io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 whatever the bytes do to zipfile and pickle
        raise DamagedCheckpoint(first_line(error)) from None
    if not isinstance(state, dict):
        raise DamagedCheckpoint(f"it holds a {type(state).__name__}, not a state")
    if state.get("version") != VERSION:
        raise DamagedCheckpoint(f"version {state.get('version')}, this code reads {VERSION}")
    for key, kind in holds.items():
        if not isinstance(state.get(key), kind):
            raise DamagedCheckpoint(f"its '{key}' is missing or of the wrong type")
    return state


def _state_in(data: io.BytesIO) -> Any:
    with zipfile.ZipFile(data) as archive:
        torn = archive.testzip()
    if torn is not None:
        raise ValueError(f"checksum of {torn} is wrong")
    data.seek(0)
    return torch.load(data, map_location="cpu", weights_only=True)


def first_line(error: Exception) -> str:
    """What an error of a library says, in a line, with its kind."""
    said = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {said}"


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
