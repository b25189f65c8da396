"""A search's checkpoint: its state, and how much of the log it covers."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nos_repro.experiments.checkpoint import MISFITS, Checkpoints, Kind, first_line
from nos_repro.experiments.files import json_line
from nos_repro.search.log import Log
from nos_repro.search.settings import Search
from nos_repro.search.state import SearchState

SECONDS = 10.0
HOLDS: dict[str, Kind] = {"state": torch.Tensor, "offset": int, "digest": str, "seal": str}
"""The state's bytes, the log up to there by its size and digest, and a digest of all of it."""


class SearchCheckpoint:
    """The checkpoint of one search. One that was edited, or made with other settings, is set aside:
    the log alone gives the same state."""

    def __init__(self, search: Search, folder: Path) -> None:
        self.search = search
        self._files = Checkpoints(folder, SECONDS)

    @property
    def due(self) -> bool:
        return self._files.due

    def save(self, state: SearchState, log: Log) -> None:
        """Raises StoreError."""
        buffer = io.BytesIO()
        torch.save(state.state_dict(), buffer)
        data = buffer.getvalue()
        offset, digest = log.size, log.digest()
        self._files.save({
            "state": torch.frombuffer(bytearray(data), dtype=torch.uint8),
            "offset": offset,
            "digest": digest,
            "seal": self._seal(data, offset, digest),
        })  # fmt: skip

    def load(self, log: Log, note: Callable[[str], None]) -> tuple[SearchState, int]:
        """The state to go on from, and how much of the log it covers: a new one if no checkpoint
        fits. Raises StoreError."""

        def rebuilt(problem: str) -> None:
            note(f"{problem.split(';')[0]}; the search's state is rebuilt from the log")

        saved = self._files.load(rebuilt, HOLDS)
        if saved is None:
            return SearchState(self.search), 0
        if saved["digest"] != log.digest(saved["offset"]):
            note("the checkpoint belongs to another log; this one is replayed in full")
            return SearchState(self.search), 0
        state = SearchState(self.search)
        try:
            state.load_state_dict(self._opened(saved))
        except MISFITS as error:
            self._files.set_aside(first_line(error), rebuilt)
            return SearchState(self.search), 0
        return state, saved["offset"]

    def _opened(self, saved: dict[str, Any]) -> Any:
        data = saved["state"].numpy().tobytes()
        if saved["seal"] != self._seal(data, saved["offset"], saved["digest"]):
            raise ValueError("it was edited, or belongs to a search with other settings")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)

    def _seal(self, data: bytes, offset: int, digest: str) -> str:
        covers = json_line([self.search.identity(), offset, digest]).encode()
        return hashlib.sha256(covers + data).hexdigest()
