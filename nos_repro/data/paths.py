"""Where data sets are on this machine, and where their decoded form is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ENVIRONMENT = "NOS_REPRO_DATA"


def user_cache() -> Path:
    """This user's cache folder of this package: `$XDG_CACHE_HOME` or `~/.cache`, `/nos_repro`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "nos_repro"


def data_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder of all data sets: `--data DIR`, else NOS_REPRO_DATA, else the user's cache."""
    chosen = given or os.environ.get(ENVIRONMENT) or user_cache() / "data"
    return Path(chosen).expanduser().absolute()


def decoded_folders(data_dir: Path) -> Iterator[Path]:
    """The places for decoded arrays, in the order in which they are tried.

    First beside the data, so that all who share the data share its decoded form; if that folder is
    not writable (a read-only mount, another user's data), in the user's own cache.
    """
    yield data_dir / ".decoded"
    yield user_cache() / "decoded"
