"""Where data sets are on this machine, and where their decoded form is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nos_repro.errors import ConfigError

ENVIRONMENT = "NOS_REPRO_DATA"


def user_cache() -> Path:
    """This user's cache folder of this package: `$XDG_CACHE_HOME` or `~/.cache`, `/nos_repro`.

    Raises ConfigError for a user without a home, as containers run under a number.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "nos_repro"
    except RuntimeError:
        raise ConfigError(
            "this user has no home folder: set HOME, or XDG_CACHE_HOME to a folder for caches"
        ) from None


def data_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder of all data sets: `--data DIR`, else NOS_REPRO_DATA, else the user's cache."""
    chosen = given or os.environ.get(ENVIRONMENT) or user_cache() / "data"
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"{chosen}: {error}") from None


def decoded_folders(data_dir: Path) -> Iterator[Path]:
    """The places for decoded arrays, in the order in which they are tried.

    First beside the data, so that all who share the data share its decoded form; if that folder is
    not writable (a read-only mount, another user's data), in the user's own cache.
    """
    yield data_dir / ".decoded"
    yield user_cache() / "decoded"
