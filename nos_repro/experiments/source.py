"""A module's source as definitions: what each one does, and which others it refers to.

Nothing is imported or executed. A definition keeps only what can decide a number: comments,
docstrings, layout, the type hints of functions and the words of errors are left out, and a
reference to another definition is a hole in its text, so that neither's name nor module counts.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nos_repro.experiments.syntax import (
    HOLE,
    Definition,
    Imported,
    Scope,
    binds,
    define,
    here,
    is_definition,
)

ALWAYS = frozenset({"forward", "backward", "jvp", "setup_context", "get_lr"})
"""Methods that torch calls by itself, besides those with two underscores."""

POSITIONAL = frozenset({"NamedTuple", "TypedDict", "Enum", "IntEnum", "StrEnum", "Flag"})
"""Bases whose subclasses are used without their attributes being named."""


HINTS = frozenset({"TYPE_CHECKING", "typing.TYPE_CHECKING"})


@dataclass
class Module:
    """What a module's source defines.

    ``names`` and ``acts`` are places in ``definitions``: of those that bind a name, and of the
    statements that do more than that when the module is imported. ``imports`` maps a name to the
    dotted path that it was imported from, ``loads`` lists all that it imports. ``rows`` are the
    rows of its tables, by `TABLE[row]`.
    """

    name: str
    definitions: list[Definition] = field(default_factory=list)
    names: dict[str, list[int]] = field(default_factory=dict)
    acts: list[int] = field(default_factory=list)
    rows: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether anything in it can decide a number: a module that only looks up, prints or
        compares says so by defining NO_NUMBERS, and is not followed."""
        return "NO_NUMBERS" not in self.names


def read_module(name: str, source: bytes, *, package: bool, own: Iterable[str]) -> Module:
    """The module of that name, from its source.

    ``package``: whether it is an `__init__.py`. ``own``: the top-level packages whose definitions
    are followed; what comes from elsewhere is part of the text, under its full name. A module that
    is no Python, or too deep for this reader, counts whole.
    """
    scope = Scope(name if package else name.rpartition(".")[0], frozenset(own))
    reader = _Reader(Module(name, imports=scope.imports, stars=scope.stars), scope)
    try:
        reader.read(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):
        return Module(name, [Definition(repr(source))], acts=[0])
    return reader.module


class _Reader:
    """Sorts a module's statements."""

    def __init__(self, module: Module, scope: Scope) -> None:
        self.module = module
        self.scope = scope
        self.foreign: set[str] = set()
        self.outside = module.name.partition(".")[0] != __name__.partition(".")[0]

    def read(self, tree: ast.Module) -> None:
        statements = list(_executed(tree.body))
        self.scope.bound.update(name for s in statements for name in binds(s))
        for statement in tree.body:  # what is imported for hints alone may be a field's type
            if not is_definition(statement):
                self.scope.imports.update((i.name, i.path) for i in self.scope.imported(statement))
        self.bind([i for s in statements if not is_definition(s) for i in self.scope.imported(s)])
        for statement in statements:
            self.sort(statement)

    def bind(self, imported: list[Imported]) -> None:
        """The names that are imported; from outside, one that is bound in another way too means
        either. (Of this package the last import: its committed records were signed so.)"""
        paths: dict[str, list[str]] = defaultdict(list)
        for name, path, _ in imported:
            if path not in paths[name]:
                paths[name].append(path)
            if not self.scope.is_own(path):
                self.foreign.add(name)
        self.scope.imports.pop("*", None)
        self.scope.stars += paths.pop("*", [])
        self.module.loads += self.scope.imports.values()
        self.module.loads += [loaded for _, _, loaded in imported]
        for name in paths:
            if self.outside and (len(paths[name]) > 1 or name in self.scope.bound):
                del self.scope.imports[name]
                self.scope.bound.add(name)
                for path in paths[name]:
                    self.add(self.of_import(path), [name])

    def of_import(self, path: str) -> Definition:
        own = self.scope.is_own(path)
        return Definition(HOLE, [tuple(path.split("."))]) if own else Definition(f"{path};")

    def sort(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return
        names = binds(statement)
        if isinstance(statement, ast.ClassDef):
            definition = self.of_class(statement)
        elif self.call_of("Registry", statement) is not None:
            definition = Definition("registry")
        elif rows := self.rows_of(statement):
            definition = Definition("table")
            self.module.rows.update(self.of_row(names[0], row) for row in rows)
        else:
            definition = define([statement], self.scope)
        number = self.add(definition, names)
        if _acts(statement) or (self.outside and self.registers(statement)):
            self.module.acts.append(number)
        definition.computes = definition.computes or _has_subclass_hook(statement)

    def registers(self, statement: ast.stmt) -> bool:
        """Whether a definition may be used without its name: by a decorator of the same package,
        or by a base class that is told of its subclasses."""
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return False
        package = self.module.name.partition(".")[0]
        roots = {_root(decorator) for decorator in statement.decorator_list}
        paths = [self.scope.imports[root] for root in roots if root in self.scope.imports]
        decorated = not roots.isdisjoint(self.scope.bound)
        decorated |= any(path.partition(".")[0] == package for path in paths)
        return decorated or _has_subclass_hook(statement)

    def add(self, definition: Definition, names: list[str]) -> int:
        number = len(self.module.definitions)
        self.module.definitions.append(definition)
        for name in names:
            self.module.names.setdefault(name, []).append(number)
        return number

    def of_class(self, cls: ast.ClassDef) -> Definition:
        head: list[ast.AST] = [*cls.decorator_list, *cls.bases, *cls.keywords]
        members: list[tuple[str, ast.stmt]] = []
        for statement in cls.body:
            names = binds(statement)
            if not names:
                head.append(statement)
            elif not _is_overload(statement):
                members += [(name, statement) for name in names]
        whole = define(head, self.scope)
        whole.members = [(n, self.of_member(n, s)) for n, s in members]
        for (_, member), (_, statement) in zip(whole.members, members, strict=True):
            member.mentions += sorted(_used_in_class(statement) & {n for n, _ in members})
        bases = {ast.unparse(base).rpartition(".")[2] for base in cls.bases}
        whole.bases, whole.foreign = define([*cls.bases], self.scope).refs, self.is_foreign(cls)
        every = bool(bases & POSITIONAL) or whole.foreign
        whole.fields, whole.display = _fields(cls)
        if every and not whole.fields:
            whole.fields = [n for n, s in members if not is_definition(s)]
        whole.live = [n for n, _ in members if every or n in ALWAYS or _is_special(n)]
        return whole

    def of_member(self, name: str, statement: ast.stmt) -> Definition:
        """A method may call a function of its own name. (Not one of this package, whose committed
        records were signed before that was seen.)"""
        hidden = () if self.outside and is_definition(statement) else (name,)
        return define([_of_class(statement)], self.scope, hidden)

    def is_foreign(self, cls: ast.ClassDef) -> bool:
        """Whether a class from outside this package derives from a library's: which of its methods
        the library calls is not known here."""
        if not self.outside:
            return False
        roots = [ast.unparse(base).partition("[")[0].partition(".")[0] for base in cls.bases]
        return not self.foreign.isdisjoint(roots)

    def call_of(self, name: str, statement: ast.stmt) -> ast.Call | None:
        """The call of `nos_repro.registry`'s class of that name that the statement assigns."""
        call = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if not isinstance(call, ast.Call):
            return None
        called = call.func.value if isinstance(call.func, ast.Subscript) else call.func
        path = self.module.imports.get(called.id, "") if isinstance(called, ast.Name) else ""
        return call if path == f"nos_repro.registry.{name}" else None

    def rows_of(self, statement: ast.stmt) -> list[ast.Call]:
        """The rows of a table that is written as one call with a call for each row."""
        table = self.call_of("Table", statement)
        rows = [row for row in table.args if isinstance(row, ast.Call)] if table else []
        named = [row for row in rows if isinstance(_name_of(row), ast.Constant)]
        return rows if table and len(named) == len(table.args) else []

    def of_row(self, table: str, row: ast.Call) -> tuple[str, Definition]:
        """`TABLE[row]`, and what each of the row's fields is given."""
        given: dict[str | None, ast.expr] = {str(place): arg for place, arg in enumerate(row.args)}
        given.update((keyword.arg, keyword.value) for keyword in row.keywords)
        whole = define([row.func], self.scope)
        whole.members = [(str(key), define([value], self.scope)) for key, value in given.items()]
        name = _name_of(row)
        assert isinstance(name, ast.Constant)
        return f"{table}[{name.value!s}]", whole


def _name_of(row: ast.Call) -> ast.expr | None:
    """The name of a table's row: its keyword, else its first argument."""
    named = [keyword.value for keyword in row.keywords if keyword.arg == "name"]
    return next(iter([*named, *row.args]), None)


def _root(decorator: ast.expr) -> str:
    """The first name in `@layers.register("conv")`."""
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(node).partition(".")[0]


def _has_subclass_hook(statement: ast.stmt) -> bool:
    """Whether a class tells something of its subclasses as they are made."""
    if not isinstance(statement, ast.ClassDef):
        return False
    named = [name for inner in statement.body for name in binds(inner)]
    hooked = any(keyword.arg == "metaclass" for keyword in statement.keywords)
    return hooked or "__init_subclass__" in named


def _of_class(statement: ast.stmt) -> ast.stmt:
    """A class's annotation without a value declares a field, and its type may matter."""
    if isinstance(statement, ast.AnnAssign):
        value = ast.Tuple(elts=[statement.annotation], ctx=ast.Load())
        if statement.value is not None:
            value.elts.append(statement.value)
        return ast.Assign(targets=[statement.target], value=value)
    return statement


def _fields(cls: ast.ClassDef) -> tuple[list[str], list[str]]:
    """The fields of a dataclass in their order, and those that it lists as `display`."""
    fields, display = [], []
    for statement in cls.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if "ClassVar" not in ast.unparse(statement.annotation):
                fields.append(statement.target.id)
            elif statement.target.id == "display" and isinstance(statement.value, ast.Tuple):
                display = [ast.unparse(c).strip("'") for c in statement.value.elts]
    return fields, display


def _acts(statement: ast.stmt) -> bool:
    """Whether it does more than bind names when its module is imported."""
    match statement:
        case ast.Expr(value=value):
            return not isinstance(value, ast.Constant)
        case ast.Assign(targets=targets):
            return not all(isinstance(t, ast.Name | ast.Tuple | ast.List) for t in targets)
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return not isinstance(target, ast.Name)
        case ast.Delete() | ast.Raise() | ast.Assert():
            return True
    if is_definition(statement):
        return False
    return any(_acts(inner) for inner in here(statement) if isinstance(inner, ast.stmt))


def _is_special(name: str) -> bool:
    return name.startswith("_") and name.endswith("_")


def _is_overload(statement: ast.stmt) -> bool:
    names = [ast.unparse(d) for d in getattr(statement, "decorator_list", ())]
    return any(name.rpartition(".")[2] == "overload" for name in names)


def _executed(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run as the module is imported: neither as a script, nor for hints."""
    for statement in body:
        test = ast.unparse(statement.test) if isinstance(statement, ast.If) else ""
        if isinstance(statement, ast.If) and (test in HINTS or test == "__name__ == '__main__'"):
            yield from _executed(statement.orelse)
        else:
            yield statement


def _used_in_class(statement: ast.stmt) -> set[str]:
    """The names that a member uses as its class is made: of a function its defaults' and its
    decorators'."""
    used: list[ast.AST] = [statement]
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        defaults = [*statement.args.defaults, *statement.args.kw_defaults]
        used = [*statement.decorator_list, *(value for value in defaults if value is not None)]
    nodes = [node for top in used for node in ast.walk(top)]
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
