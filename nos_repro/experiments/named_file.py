"""The text of a file that a user names, which can be any file: a device, a pipe, a checkpoint."""

from __future__ import annotations

from pathlib import Path

from nos_repro.errors import ConfigError

LONGEST = 64 * 2**20


def read_named(path: Path) -> str:
    """The text of a settings file or a list of claims. Raises ConfigError if it is longer than any
    of these can be, OSError and UnicodeDecodeError."""
    with path.open(encoding="utf-8") as file:
        text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise ConfigError(f"longer than {LONGEST:,} characters; is it the right file?")
    return text
