"""The results that git tracks, taken from its index; other files next to them are ignored.

Stage a table (`git add`) and the tests see it. If git does not track `results/`, as in an unpacked
archive, the tests that need it are skipped with the reason.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _git(root: Path, *words: str, given: bytes = b"") -> bytes:
    command = ["git", "-C", root, *words]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


@cache
def _listing(root: Path) -> tuple[bytes, str]:
    """The paths under `results/`, each ending with a zero byte; and why, if there are none."""
    try:
        listing = _git(root, "ls-files", "-z", "results")
    except FileNotFoundError:
        return b"", "git is not installed"
    except subprocess.CalledProcessError as error:
        return b"", error.stderr.decode(errors="replace").strip()
    return listing, "" if listing else "git tracks no file there"


def why_none(root: Path = ROOT) -> str:
    """Why no result counts as committed; empty if some do."""
    reason = _listing(root)[1]
    return f"cannot tell which files of results/ are committed: {reason}" if reason else ""


def committed_files(pattern: str, root: Path = ROOT) -> list[PurePosixPath]:
    """Tracked files whose path in `results/` matches, such as `*/*/records.jsonl`."""
    names = _listing(root)[0].decode().split("\0")[:-1]
    paths = sorted(PurePosixPath(name).relative_to("results") for name in names)
    return [path for path in paths if path.match(pattern)]


def every_committed(pattern: str) -> pytest.MarkDecorator:
    """One case per tracked file that matches: its path in `results/`, as the argument `path`."""
    found = [pytest.param(path, id="-".join(path.parts[:-1])) for path in committed_files(pattern)]
    none = pytest.param(None, marks=pytest.mark.skip(reason=why_none() or f"no {pattern}"))
    return pytest.mark.parametrize("path", found or [none])


def export_committed(folder: Path, root: Path = ROOT) -> Path:
    """Writes every tracked result under ``folder``; returns the `results/` folder there."""
    _git(root, "checkout-index", "-z", "--stdin", f"--prefix={folder}/", given=_listing(root)[0])
    below = _git(root, "rev-parse", "--show-prefix").decode().strip()  # in another checkout
    return folder / below / "results"
