"""The data card of a table: its README.md, written with its numbers."""

from __future__ import annotations

from pathlib import Path

from nos_repro.experiments.files import write_atomically
from nos_repro.search.table.files import Packed


def write_card(folder: Path, packed: Packed) -> None:
    """Writes README.md. Raises StoreError."""
    write_atomically(folder / "README.md", card(packed).encode())


def card(packed: Packed) -> str:
    """The card's text."""
    return f"# {packed.settings['table']}\n"
