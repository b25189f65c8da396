"""The order of the rooms (README): a room imports only rooms upstream of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "nos_repro"
# fmt: off
ROOMS = ["rules", "optim", "data", "tasks", "experiments", "launch", "search", "score",
         "tracking", "report", "bench", "cli", "__main__"]
EVERYBODYS = {"errors", "registry", "extras"}
# fmt: on
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str | None:
    """`nos_repro.optim.factory` -> `optim`; the package itself and other packages -> None."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE.name and len(parts) > 1 else None


def imported_rooms(source: str, module: str) -> Iterator[tuple[int, str]]:
    """(line, room) of every import in the source, those inside functions included."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from nos_repro import optim` names its room in the alias
            names = [f"{base}.{a.name}" for a in node.names] if base == PACKAGE.name else [base]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
        for name in names:
            room = room_of(name)
            if room is not None and room not in EVERYBODYS:
                yield node.lineno, room


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_upstream_rooms(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    module = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts])
    rooms = list(imported_rooms(path.read_text(encoding="utf-8"), module))
    if own == "__init__":
        return  # the package's lazy exports may come from any room
    if own in EVERYBODYS:
        assert not rooms, f"{path.name} is everybody's and imports no room: {rooms}"
        return
    assert own in ROOMS, (
        f"{path.name}: new room {own!r}: give it its place in ROOMS and in the README"
    )
    for line, room in rooms:
        if room in ROOMS:
            assert ROOMS.index(room) <= ROOMS.index(own), f"line {line}: {own} imports {room}"
        else:
            # what the package's own __init__ exports comes from rules and optim
            assert own not in {"rules", "optim", "data"}, f"line {line}: {own} imports {room}"


def test_the_data_room_imports_no_other_room() -> None:
    for path in (PACKAGE / "data").glob("*.py"):
        module = f"{PACKAGE.name}.data.{path.stem}"
        others = {r for _, r in imported_rooms(path.read_text(encoding="utf-8"), module)} - {"data"}
        assert not others, f"{path.name} imports {others}"


# fmt: off
IMPORTS = [
    ("import nos_repro.optim.factory",               ["optim"]),
    ("from nos_repro import report",                 ["report"]),
    ("from nos_repro.tasks import base",             ["tasks"]),
    ("def f():\n    from nos_repro.cli import main", ["cli"]),
    ("from ..tasks import base",                     ["tasks"]),
    ("from .compile import program",                 ["optim"]),
    ("import importlib\nimportlib.import_module('nos_repro.bench.runner')", ["bench"]),
    ("import torch\nfrom nos_repro.errors import NosError", []),
]
# fmt: on


@pytest.mark.parametrize(("source", "rooms"), IMPORTS)
def test_every_spelling_of_an_import_is_seen(source: str, rooms: list[str]) -> None:
    seen = [room for _, room in imported_rooms(source, "nos_repro.optim.optimizer")]
    assert seen == rooms
