"""Children that fail with an exception: a bug of the task, the rule or the suite.

A failed child says nothing about its rule, so nothing is learned from it. Its traceback is kept in
`failures/`, and `search --retry` trains it again.
"""

from __future__ import annotations

from pathlib import Path

from nos_repro.errors import ConfigError, NosError
from nos_repro.experiments.files import write_atomically
from nos_repro.search.child import Evaluation

AGAIN = "nothing is lost: mend that, then run the same command with --retry"


class ChildError(NosError):
    """Children fail by a bug, and a search cannot go on."""

    status = 1


def keep_traceback(folder: Path, name: str, found: Evaluation) -> None:
    """Writes the traceback of the child ``name`` into the search's folder, if it has one."""
    if found.traceback:
        write_atomically(_path(folder, name), found.traceback.encode("utf-8", "backslashreplace"))


def child_error(folder: Path, name: str, found: Evaluation, what: str) -> NosError:
    """The error that stops a search: ``what`` happened, shown by the failure of the child ``name``.

    A mistake in the settings is shown without a traceback.
    """
    if found.fault == "settings":
        return ConfigError(f"{what}: {found.reason}\n  {AGAIN}")
    trace = found.traceback or _kept(folder, name)
    shown = "".join(f"\n  | {line}" for line in trace.splitlines())
    return ChildError(f"{what}: {found.reason}{shown}\n  {AGAIN}")


def _kept(folder: Path, name: str) -> str:
    try:
        return _path(folder, name).read_text(encoding="utf-8")
    except OSError:
        return ""


def _path(folder: Path, name: str) -> Path:
    return folder / "failures" / f"{name}.txt"
