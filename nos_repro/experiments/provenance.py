"""Where a number comes from: machine, versions, commit, and a digest of the code that made it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import torch

from nos_repro.experiments.trial import make_settings
from nos_repro.tasks import TASKS

PACKAGE = "nos_repro"
LIBRARIES = (
    *("torch", "torchvision", "pytorch-lightning", "numpy"),
    *("sacrebleu", "sentencepiece", "torchtext", "num2words"),
)
ENGINE = (f"{PACKAGE}.experiments.build",)


def provenance(device: str) -> dict[str, object]:
    """Host, device, versions and commit, for a record. No environment, no user name, no path."""
    return {
        "host": platform.node(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else _cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "commit": commit(),
    }


@functools.cache
def commit() -> str:
    """The commit of the checkout this package runs from, `+` where it has changes; else "".

    A package installed inside another project's checkout (its `.venv`) is no part of that.
    """
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", "--", __file__)
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--", str(here.parent))
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, encoding="utf-8", check=True, timeout=10
    )
    return done.stdout.strip()


@functools.cache
def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({os.cpu_count()} cores)"
    return platform.processor() or platform.machine()


@functools.cache
def code_digest(modules: tuple[str, ...]) -> str:
    """A digest of the code that decides a trial's numbers.

    It covers the modules of this package that the building of a run (loop, factory) and
    ``modules`` (what the task names as its own, `Task.code`) reach by import. Packages'
    `__init__` only point at others and are left out, so that a new task leaves the old ones'
    digests alone. Syntax trees are hashed: comments, docstrings and layout do not count.
    """
    digest = hashlib.sha256()
    for name in sorted(_reached([*ENGINE, *modules])):
        digest.update(name.encode())
        digest.update(_logic(name).encode())
    return digest.hexdigest()[:12]


def trial_code(task: str, task_settings: dict[str, Any]) -> str:
    """The digest for a trial of ``task`` with these settings, as the code stands now."""
    return _trial_code(task, orjson.dumps(task_settings, option=orjson.OPT_SORT_KEYS))


@functools.cache
def _trial_code(task: str, task_settings: bytes) -> str:
    settings = make_settings(task, orjson.loads(task_settings))
    entry = TASKS.entry(task)
    origins = (entry.origin, *entry.value.code(settings))
    return code_digest(tuple(origin.partition(":")[0] for origin in origins))


def _reached(roots: list[str]) -> set[str]:
    seen: set[str] = set()
    ahead = list(roots)
    while ahead:
        name = ahead.pop()
        source = _source(name)
        if name in seen or source is None or source.name == "__init__.py":
            continue
        seen.add(name)
        ahead += [imported for imported in _imports(name) if imported.split(".")[0] == PACKAGE]
    return seen


@functools.cache
def _source(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") else None


@functools.cache
def _parse(name: str) -> ast.Module:
    source = _source(name)
    assert source is not None
    return ast.parse(source.read_text(encoding="utf-8"))


def _imports(name: str) -> Iterator[str]:
    for node in ast.walk(_parse(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def _logic(name: str) -> str:
    """The module's syntax tree as text, without its docstrings.

    Neither `ast.unparse` nor `ast.dump` will do: they write one tree differently from one version
    of Python to the next, and a record would be stale wherever another Python reads it.
    """
    tree = _parse(name)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            node.body = body[1:]  # type: ignore[attr-defined]
    return _written(tree)


def _written(node: object) -> str:
    """A syntax tree as text. Empty fields are left out: new versions of Python add some."""
    if isinstance(node, ast.AST):
        fields = [(k, v) for k, v in ast.iter_fields(node) if v is not None and v != []]
        return f"{type(node).__name__}({','.join(f'{k}={_written(v)}' for k, v in fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    return repr(node)


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
