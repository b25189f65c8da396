"""A module's source as definitions: what each one does, and which others it refers to.

Nothing is imported or executed. Of a definition stays what can decide a number: comments,
docstrings, layout, the type hints of functions and the words of errors are left out, and a
reference to another definition is a hole in its text, so that neither's name nor module counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from nos_repro.experiments.syntax import Definition, Scope, binds, define, is_definition

ALWAYS = frozenset({"forward", "backward", "jvp", "setup_context", "get_lr"})
"""Methods that torch calls by itself, beside those with two underscores."""

POSITIONAL = frozenset({"NamedTuple", "TypedDict", "Enum", "IntEnum", "StrEnum", "Flag"})
"""Bases whose subclasses are used without their attributes being named."""


@dataclass
class Module:
    """What a module's source defines.

    ``names`` and ``acts`` count among the ``definitions``: those that bind a name, and the
    statements that do more than that as the module is imported. ``imports`` maps a name to the
    dotted path that it was imported from. ``rows``: those of its tables, by `TABLE[row]`.
    """

    name: str
    definitions: list[Definition] = field(default_factory=list)
    names: dict[str, list[int]] = field(default_factory=dict)
    acts: list[int] = field(default_factory=list)
    rows: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether anything in it can decide a number: a module that only looks up, prints or
        compares says so by defining NO_NUMBERS, and is not followed."""
        return "NO_NUMBERS" not in self.names


def read_module(name: str, source: str, *, package: bool, own: Iterable[str]) -> Module:
    """The module of that name, from its source.

    ``package``: it is an `__init__.py`. ``own``: the top-level packages whose definitions are
    referred to; what comes from elsewhere is part of the text, by its full name. Raises
    SyntaxError.
    """
    scope = Scope(name if package else name.rpartition(".")[0], frozenset(own))
    reader = _Reader(Module(name, imports=scope.imports, stars=scope.stars), scope)
    reader.read(ast.parse(source))
    return reader.module


class _Reader:
    """Sorts a module's statements."""

    def __init__(self, module: Module, scope: Scope) -> None:
        self.module = module
        self.scope = scope

    def read(self, tree: ast.Module) -> None:
        statements = [s for s in tree.body if not _is_main_guard(s)]
        for statement in statements:
            for node in ast.walk(statement) if not is_definition(statement) else ():
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self.scope.imports.update(self.scope.imported(node))
        self.scope.bound.update(name for s in statements for name in binds(s))
        for statement in statements:
            self.sort(statement)

    def sort(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_type_checking(statement):
            return
        names = binds(statement)
        if isinstance(statement, ast.ClassDef):
            definition = self.of_class(statement)
        elif self.call_of("Registry", statement) is not None:
            definition = Definition("registry")
        elif table := self.call_of("Table", statement):
            definition = Definition("table")
            self.module.rows.update(self.of_row(names[0], row) for row in table.args)
        else:
            definition = define([statement], self.scope)
        number = len(self.module.definitions)
        self.module.definitions.append(definition)
        for name in names:
            self.module.names.setdefault(name, []).append(number)
        if _acts(statement):
            self.module.acts.append(number)

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
        whole.members = [(n, define([_of_class(s)], self.scope, [n])) for n, s in members]
        bases = {ast.unparse(base).rpartition(".")[2] for base in cls.bases}
        every = bool(bases & POSITIONAL) or self.is_foreign(cls)
        whole.fields, whole.display = _fields(cls)
        whole.live = [n for n, _ in members if every or n in ALWAYS or _is_special(n)]
        return whole

    def is_foreign(self, cls: ast.ClassDef) -> bool:
        """Whether a class from outside this package derives from a library's: which of its methods
        the library calls is not known here."""
        if self.module.name.partition(".")[0] == __name__.partition(".")[0]:
            return False
        roots = [ast.unparse(base).partition("[")[0].partition(".")[0] for base in cls.bases]
        paths = [self.module.imports.get(root) for root in roots]
        return any(path is not None and not self.scope.is_own(path) for path in paths)

    def call_of(self, name: str, statement: ast.stmt) -> ast.Call | None:
        """The call of `nos_repro.registry`'s class of that name that the statement assigns."""
        call = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if not isinstance(call, ast.Call):
            return None
        called = call.func.value if isinstance(call.func, ast.Subscript) else call.func
        path = self.module.imports.get(called.id, "") if isinstance(called, ast.Name) else ""
        return call if path.endswith(f".registry.{name}") else None

    def of_row(self, table: str, row: ast.expr) -> tuple[str, Definition]:
        """`TABLE[row]`, and what each of the row's fields is given."""
        if not isinstance(row, ast.Call):
            raise SyntaxError(f"{self.module.name}: each row of {table} must be a call")
        given: dict[str | None, ast.expr] = {str(place): arg for place, arg in enumerate(row.args)}
        given.update((keyword.arg, keyword.value) for keyword in row.keywords)
        name = given.get("name", given.get("0"))
        if not isinstance(name, ast.Constant):
            raise SyntaxError(f"{self.module.name}: a row of {table} must begin with its name")
        whole = define([row.func], self.scope)
        whole.members = [(str(key), define([value], self.scope)) for key, value in given.items()]
        return f"{table}[{name.value!s}]", whole


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
            elif statement.target.id == "display" and statement.value is not None:
                display = list(ast.literal_eval(statement.value))
    return fields, display


def _acts(statement: ast.stmt) -> bool:
    """Whether it does more, as its module is imported, than bind names."""
    match statement:
        case ast.Expr(value=value):
            return not isinstance(value, ast.Constant)
        case ast.Assign(targets=targets):
            return not all(isinstance(t, ast.Name | ast.Tuple | ast.List) for t in targets)
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return not isinstance(target, ast.Name)
        case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While():
            inner = [n for n in ast.iter_child_nodes(statement) if isinstance(n, ast.stmt)]
            return any(map(_acts, inner))
        case ast.Delete() | ast.Raise() | ast.Assert():
            return True
    return False


def _is_special(name: str) -> bool:
    return name.startswith("_") and name.endswith("_")


def _is_overload(statement: ast.stmt) -> bool:
    names = [ast.unparse(d) for d in getattr(statement, "decorator_list", ())]
    return any(name.rpartition(".")[2] == "overload" for name in names)


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _is_type_checking(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")
