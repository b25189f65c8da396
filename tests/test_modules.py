"""How the package is divided: short modules, unique names of classes, no circles, no dead code."""

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "nos_repro"
LONGEST = 400
"""Lines of a module."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports, in functions too; not what is there for
    type checkers alone."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in _executed(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parts, node.module or ""] if node.level else [node.module or ""])
            for alias in node.names:
                inner = f"{base}.{alias.name}".replace("..", ".")
                found.add(inner if inner in MODULES else base)
    return (found & MODULES.keys()) - {module}


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed(child)


def circles(graph: dict[str, set[str]]) -> list[frozenset[str]]:
    """The sets of more than one module that reach each other (Tarjan's)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            place = stack.index(module)
            if len(stack) - place > 1:
                found.append(frozenset(stack[place:]))
            del stack[place:]

    for module in graph:
        if module not in index:
            visit(module)
    return found


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [frozenset("bc")]


def test_no_module_is_over_four_hundred_lines() -> None:
    lines = {m: len(p.read_text(encoding="utf-8").splitlines()) for m, p in MODULES.items()}
    assert {m for m, count in lines.items() if count > LONGEST} == set()


def test_no_two_public_classes_have_one_name() -> None:
    where = defaultdict(set)
    for module in MODULES:
        for node in tree(module).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].add(module)
    shared = {name: sorted(modules) for name, modules in where.items() if len(modules) > 1}
    assert not shared


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count too, since an import made late to escape a circle hides it."""
    assert not circles({module: imports(module) for module in MODULES})


def test_no_module_is_dead() -> None:
    """Each is imported or named by another, found by a registry, or run by itself."""
    used = {other for module in MODULES for other in imports(module)}
    words = {
        node.value
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    registries = set(_registries())
    dead = {
        module
        for module, path in MODULES.items()
        if module not in used | words
        and module.rpartition(".")[0] not in registries
        and path.name not in ("__init__.py", "__main__.py")
    }
    assert not dead


def _registries() -> Iterator[str]:
    """The packages whose modules a registry imports by itself."""
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Registry":
                yield ast.literal_eval(node.args[1])
