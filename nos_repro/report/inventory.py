"""What a file or a command may name, by kind, each with a line about it; nothing heavy is imported
for that."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nos_repro.data import CORPORA, IMAGES, PARALLEL_TEXTS, PHOTOGRAPHS
from nos_repro.errors import ConfigError
from nos_repro.experiments.settings_file import TABLES, read_values, shipped
from nos_repro.optim.registry import OPTIMIZERS, SCHEDULES
from nos_repro.registry import Registry
from nos_repro.rules.catalog import CATALOG
from nos_repro.rules.families import FAMILIES
from nos_repro.rules.space import SPACES
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.tasks.registry import TASKS


@dataclass(frozen=True)
class Listed:
    """Something that has a ``name``, and what it is, in a line."""

    name: str
    about: str


def _registered(*registries: Registry[Any], whole: bool = False) -> Iterator[Listed]:
    """The entries, each with the first paragraph of its docstring; ``whole``: its module's."""
    for registry in registries:
        for name in registry.names():
            entry = registry.entry(name)
            yield Listed(name, _about(entry.module, "" if whole else entry.definition))


def _about(module: str, definition: str) -> str:
    """The first paragraph of a docstring, read in the source."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    tree = ast.parse(Path(spec.origin).read_bytes())
    nodes = {getattr(node, "name", None): node for node in tree.body}
    node = nodes.get(definition, tree)
    assert isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


def _optimizers() -> Iterator[Listed]:
    for family in FAMILIES.values():
        yield Listed(family.name, f"{family.label}: {family.formula}; with a decay:"
                     f" {family.name}-ld, -cd, -cdN, -rdN")  # fmt: skip
    yield from _registered(OPTIMIZERS)


def _rules() -> Iterator[Listed]:
    for printed in CATALOG.values():
        yield Listed(printed.name, f"{printed.text}   ({printed.place})")


def _spaces() -> Iterator[Listed]:
    for name, space in SPACES.items():
        yield Listed(name, f"{space.size:.2g} strings of {space.length} words, made of"
                     f" {len(space.operands)} operands, {len(space.unary)} unary and"
                     f" {len(space.binary)} binary functions")  # fmt: skip


def _files(kind: str) -> Iterator[Listed]:
    """The studies or searches that ship, and those in the working directory."""
    ours = shipped()
    here = {file.name: file for file in sorted(Path().glob("*.yaml")) if file.is_file()}
    for name, file in {**ours, **here}.items():
        try:
            values = read_values(file)
        except ConfigError:  # a file of something else
            continue
        if kind in values:
            words = [str(values[key]) for key in ("source", "claim") if values.get(key)]
            yield Listed(name, ": ".join(words))


def _tables() -> Iterator[Listed]:
    """The tables of rules that ship, as commands name them."""
    for name, file in shipped(TABLES).items():
        yield Listed(f"{TABLES}/{name}", " ".join(str(read_values(file).get("about", "")).split()))


KINDS: dict[str, Callable[[], Iterator[Listed]]] = {
    "studies": lambda: _files("study"),
    "searches": lambda: _files("search"),
    "tables": _tables,
    "tasks": lambda: _registered(TASKS, whole=True),
    "data": lambda: _registered(IMAGES, PHOTOGRAPHS, CORPORA, PARALLEL_TEXTS),
    "optimizers": _optimizers,
    "schedules": lambda: _registered(SCHEDULES),
    "rules": _rules,
    "spaces": _spaces,
    "algorithms": lambda: _registered(ALGORITHMS, whole=True),
}
"""What can be listed, in the order in which a newcomer meets it."""


def inventory(*kinds: str) -> dict[str, list[Listed]]:
    """All that can be named, of these kinds or of every kind."""
    return {kind: list(KINDS[kind]()) for kind in kinds or KINDS}
