"""A trial's checkpoint: everything that the rest of the run depends on, in one file."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from nos_repro.experiments.files import StoreError, read_with, rename, write_atomically

VERSION = 1

MISFITS = (LookupError, TypeError, ValueError, AttributeError, RuntimeError)
"""What modules, optimizers and schedules raise for a state that is not theirs."""

MOST_OF_THE_TIME = 0.02
"""Share of a trial's time that saving its state may take."""

SHARED_SECONDS = 90.0
"""How long a process waits until it sees the leader's checkpoint: NFS may show a folder as it was a
minute ago."""

Kind = type | tuple[type, ...]


class Checkpoints:
    """Saves the state of a run at most every ``every_seconds``, and finds it again.

    A save that takes long, of a large model over NFS say, makes the pause longer: saving takes at
    most MOST_OF_THE_TIME. The cheaper of the last two saves counts, so that one delay of the file
    server does not put the next save off for an hour. ``every_seconds`` 0 saves whatever it costs.
    ``clock`` returns seconds.

    If several processes train a trial together, one of them ``writes``; the others never save.
    """

    def __init__(
        self,
        folder: Path,
        every_seconds: float = 60.0,
        *,
        writes: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = folder / "checkpoint.pt"
        self.every_seconds = every_seconds
        self.writes = writes
        self._clock = clock
        self._last = clock()
        self._costs: list[float] = []

    @property
    def pause(self) -> float:
        """Seconds from the end of one save to the next."""
        affordable = min(self._costs, default=0.0) * (1 / MOST_OF_THE_TIME - 1)
        return max(self.every_seconds, affordable) if self.every_seconds else 0.0

    @property
    def due(self) -> bool:
        return self.writes and self._clock() - self._last >= self.pause

    def save(self, state: dict[str, Any]) -> None:
        """Writes ``state`` with one rename. Raises StoreError if the disk refuses."""
        if not self.writes:
            return
        began = self._clock()
        buffer = io.BytesIO()
        torch.save({"version": VERSION, **state}, buffer)
        write_atomically(self.path, buffer.getbuffer())
        self._last = self._clock()
        self._costs = [*self._costs[-1:], self._last - began]

    def seal(self) -> str:
        """What tells this checkpoint from any other. Raises StoreError."""
        return read_with(self.path, _seal) or ""

    def load_sealed(self, seal: str) -> dict[str, Any]:
        """The state that the leader has found and verified, read by another process. Raises
        StoreError if it does not see that file."""
        deadline = self._clock() + SHARED_SECONDS
        while True:
            state = read_with(self.path, lambda file: _sealed_state(file, seal))
            if state is not None:
                return state
            if self._clock() >= deadline:
                raise StoreError(
                    f"{self.path} is not what the leading process reads there\n"
                    "  the nodes of a trial must share the file system of --results"
                )
            time.sleep(0.5)

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
    checksums are verified. Raises DamagedCheckpoint and StoreError.

    The file is read, part by part, into the tensors, which takes its size in memory once. A memory
    map would share that among the processes of a node, but a file that another node replaces while
    it is mapped over NFS ends the process with a bus error.
    """
    try:
        state = read_with(path, _verified_state)
    except (MemoryError, StoreError):
        raise
    except Exception as error:  # noqa: BLE001 whatever the bytes do to zipfile and pickle
        raise DamagedCheckpoint(first_line(error)) from None
    if state is None:
        return None
    if not isinstance(state, dict):
        raise DamagedCheckpoint(f"it holds a {type(state).__name__}, not a state")
    if state.get("version") != VERSION:
        raise DamagedCheckpoint(f"version {state.get('version')}, this code reads {VERSION}")
    for key, kind in holds.items():
        if not isinstance(state.get(key), kind):
            raise DamagedCheckpoint(f"its '{key}' is missing or of the wrong type")
    return state


def _verified_state(file: IO[bytes]) -> Any:
    """The state in a file whose checksums are right; read piece by piece, never as a whole."""
    with zipfile.ZipFile(file) as archive:
        torn = archive.testzip()
    if torn is not None:
        raise ValueError(f"checksum of {torn} is wrong")
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _sealed_state(file: IO[bytes], seal: str) -> dict[str, Any] | None:
    """The state in a file with this seal; None if it has another."""
    if _seal(file) != seal:
        return None
    file.seek(0)
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _seal(file: IO[bytes]) -> str:
    """A digest of the names, sizes and checksums of all parts; "" if it is not a checkpoint."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = [(part.filename, part.file_size, part.CRC) for part in archive.infolist()]
    except (zipfile.BadZipFile, ValueError):
        return ""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


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
