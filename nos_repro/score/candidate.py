"""What is scored: a file that defines an optimizer, a rule's text, or an optimizer's name.

A file is only parsed here. It runs in a process of its own.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nos_repro.errors import NosError
from nos_repro.score.fault import Fault

LARGEST = 1 << 17
"""Bytes of a candidate's file."""


@dataclass(frozen=True)
class Submission:
    """``text`` is a file's source, or a rule or name. ``pick``: the class or function of a file,
    where it defines several. ``modules``: where the package of a name from outside is."""

    kind: Literal["file", "name"]
    name: str
    text: str
    pick: str = ""
    modules: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of what it says."""
        return hashlib.sha256(f"{self.kind} {self.pick} {self.text}".encode()).hexdigest()[:12]


def read_candidate(given: str) -> Submission:
    """`FILE.py`, `FILE.py:NAME`, a rule's text or an optimizer's name. Raises Fault."""
    path, _, pick = given.rpartition(":") if ".py:" in given else (given, "", "")
    if path.endswith(".py"):
        return _of_file(Path(path), pick)
    return _of_name(given)


def _of_file(path: Path, pick: str) -> Submission:
    try:
        data = path.read_bytes()
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise Fault("input", f"{path}: {problem}") from None
    if len(data) > LARGEST:
        raise Fault("input", f"{path} has {len(data):,} bytes; a candidate has at most {LARGEST:,}")
    try:
        text = data.decode()
        ast.parse(text)
    except SyntaxError as error:
        raise Fault("syntax", f"{path.name}, line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Fault("syntax", f"{path.name}: {error}") from None
    return Submission("file", path.stem, text, pick)


def _of_name(given: str) -> Submission:
    from nos_repro.optim.lookup import find_optimizer
    from nos_repro.optim.registry import OPTIMIZERS
    from nos_repro.registry import is_path

    modules: tuple[str, ...] = ()
    if is_path(given):  # its module is imported in the candidate's process alone
        spec = importlib.util.find_spec(given.partition(".")[0])
        if spec is None:
            raise Fault("input", f"no Python package '{given.partition('.')[0]}'")
        folders = [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
        modules = tuple(folders)
    elif given not in OPTIMIZERS or given.strip() != given:
        try:
            find_optimizer(given)
        except NosError as error:
            raise Fault("input", str(error)) from None
    return Submission("name", given, given, modules=modules)
