"""A module's source as definitions: what each one does, and which others it refers to.

Nothing is imported or executed. Of a definition stays what can decide a number: comments,
docstrings, layout, the type hints of functions and the words of errors are left out, and a
reference to another definition is a hole in its text, so that neither's name nor module counts.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

HOLE = "\0"

Chain = tuple[str, ...]
"""A name and the attributes asked of it: `baselines.sgd` is ("baselines", "sgd")."""

ALWAYS = frozenset({"forward", "backward", "jvp", "setup_context", "get_lr"})
"""Methods that torch calls by itself, beside those with two underscores."""

POSITIONAL = frozenset({"NamedTuple", "TypedDict", "Enum", "IntEnum", "StrEnum", "Flag"})
"""Bases whose subclasses are used without their attributes being named."""


@dataclass
class Definition:
    """A top-level statement, a member of a class, or a row of a table.

    ``text``: its syntax, with a HOLE for each of ``refs``. ``mentions``: the attributes that it
    asks of anything. ``members`` of a class count where somebody mentions them; those without a
    name, or in ``live``, count by themselves.
    """

    text: str
    refs: list[Chain] = field(default_factory=list)
    mentions: list[str] = field(default_factory=list)
    members: list[tuple[str, Definition]] = field(default_factory=list)
    live: list[str] = field(default_factory=list)


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
    module = Module(name)
    _Reader(module, package, frozenset(own)).read(ast.parse(source))
    return module


class _Reader:
    """Sorts a module's statements."""

    def __init__(self, module: Module, package: bool, own: frozenset[str]) -> None:
        self.module = module
        self.parent = module.name if package else module.name.rpartition(".")[0]
        self.own = own
        self.classes: dict[str, ast.ClassDef] = {}

    def read(self, tree: ast.Module) -> None:
        statements = [s for s in tree.body if not _is_main_guard(s)]
        for statement in statements:
            for node in ast.walk(statement) if not _is_definition(statement) else ():
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self.note_import(node, self.module.imports)
        self.classes = {s.name: s for s in statements if isinstance(s, ast.ClassDef)}
        self.bound = {name for s in statements for name in _binds(s)} | set(self.module.imports)
        for statement in statements:
            self.sort(statement)

    def note_import(self, node: ast.Import | ast.ImportFrom, imports: dict[str, str]) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                path = alias.name if alias.asname else alias.name.partition(".")[0]
                imports[alias.asname or path] = path
            return
        base = node.module or ""
        if node.level:
            above = self.parent.split(".")[: len(self.parent.split(".")) - node.level + 1]
            base = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            if alias.name == "*":
                self.module.stars.append(base)
            else:
                imports[alias.asname or alias.name] = f"{base}.{alias.name}"

    def may_define(self, name: str) -> bool:
        starred = any(path.partition(".")[0] in self.own for path in self.module.stars)
        return name in self.bound or (starred and not hasattr(builtins, name))

    def sort(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_type_checking(statement):
            return
        names = _binds(statement)
        if isinstance(statement, ast.ClassDef):
            definition = self.class_definition(statement)
        elif table := self.table_call(statement):
            definition = Definition("table")
            for row in table.args:
                key = row.args[0].value if isinstance(row, ast.Call) and row.args else None  # type: ignore[attr-defined]
                self.module.rows[f"{names[0]}[{key}]"] = self.row_definition(row)
        elif self.is_call_of(statement, "Registry"):
            definition = Definition("registry")
        else:
            definition = self.definition([statement])
        number = len(self.module.definitions)
        self.module.definitions.append(definition)
        for name in names:
            self.module.names.setdefault(name, []).append(number)
        if _acts(statement):
            self.module.acts.append(number)

    def definition(self, nodes: list[ast.AST], local: Iterable[str] = ()) -> Definition:
        """Of the ``nodes`` together; ``local`` names are none of the module's."""
        writer = _Writer(self, nodes, local)
        for node in nodes:
            writer.write_top(node)
        return Definition("".join(writer.out), writer.refs, sorted(writer.mentions))

    def class_definition(self, cls: ast.ClassDef) -> Definition:
        head: list[ast.AST] = [*cls.decorator_list, *cls.bases, *cls.keywords]
        members: list[tuple[str, ast.stmt]] = []
        for statement in cls.body:
            names = _binds(statement)
            if names and not _is_overload(statement):
                members += [(name, statement) for name in names]
            elif not names:
                head.append(statement)
        whole = self.definition(head)
        whole.members = [(n, self.definition([_of_class(s)], [n])) for n, s in members]
        bases = {ast.unparse(base).rpartition(".")[2] for base in cls.bases}
        if bases & POSITIONAL or self.is_foreign(cls):
            whole.live = [name for name, _ in members]
        else:
            whole.live = [n for n, _ in members if n in ALWAYS or _is_special(n)]
        return whole

    def is_foreign(self, cls: ast.ClassDef) -> bool:
        """Whether a class from outside this package derives from a library's: which of its methods
        the library calls is not known here."""
        if self.module.name.partition(".")[0] == __name__.partition(".")[0]:
            return False
        roots = [ast.unparse(base).partition(".")[0].partition("[")[0] for base in cls.bases]
        paths = [self.module.imports.get(root, "") for root in roots]
        return any(path and path.partition(".")[0] not in self.own for path in paths)

    def is_call_of(self, statement: ast.stmt, name: str) -> bool:
        value = getattr(statement, "value", None)
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or not isinstance(value, ast.Call):
            return False
        called = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        path = self.module.imports.get(called.id, "") if isinstance(called, ast.Name) else ""
        return path.endswith(f".registry.{name}")

    def table_call(self, statement: ast.stmt) -> ast.Call | None:
        return statement.value if self.is_call_of(statement, "Table") else None  # type: ignore

    def row_definition(self, row: ast.expr) -> Definition:
        """A row less what only prints: the fields that its class lists as `display`."""
        if isinstance(row, ast.Call) and isinstance(row.func, ast.Name):
            cls = self.classes.get(row.func.id)
            fields, display = _row_fields(cls) if cls is not None else ([], ())
            shown = [arg for name, arg in zip(fields, row.args, strict=False) if name in display]
            row = ast.Call(
                func=row.func,
                args=[arg for arg in row.args if arg not in shown],
                keywords=[k for k in row.keywords if k.arg not in display],
            )
        return self.definition([row])


class _Writer:
    """Writes syntax as text, the names of other definitions as holes."""

    def __init__(self, reader: _Reader, nodes: list[ast.AST], local: Iterable[str]) -> None:
        self.reader = reader
        self.imports = dict(reader.module.imports)
        self.out: list[str] = []
        self.refs: list[Chain] = []
        self.mentions: set[str] = set()
        self.local = {*_locals(nodes), *local}
        inside = [node for top in nodes for node in ast.walk(top)]
        for node in inside:
            if isinstance(node, ast.Import | ast.ImportFrom):
                reader.note_import(node, self.imports)
        self.asks_by_text = any(map(_asks_by_text, inside))

    def write_top(self, node: ast.AST) -> None:
        """A definition itself, which goes by no name."""
        if _is_definition(node):
            self.fields(node, but=("name", "returns", "type_comment", "type_params"))
        else:
            self.write(node)

    def write(self, node: object) -> None:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.expr_context() | ast.Pass():
                pass
            case ast.Expr(value=ast.Constant(value=str())):
                pass  # a docstring
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.fields(node, but=("returns", "type_comment", "type_params"))
            case ast.arg(arg=name):
                self.out.append(f"{name};")
            case ast.AnnAssign(value=None):
                pass
            case ast.AnnAssign():
                self.fields(node, but=("annotation",))
            case ast.Assert(test=test):
                self.out.append("Assert(")
                self.write(test)
            case ast.Raise(exc=error):
                self.out.append("Raise(")
                self.write(error.func if isinstance(error, ast.Call) else error)
            case ast.Name() | ast.Attribute():
                self.write_chain(node)
            case ast.Constant(value=value):
                self.out.append(f"{value!r};")
                if self.asks_by_text and isinstance(value, str) and value.isidentifier():
                    self.mentions.add(value)
            case ast.AST():
                self.fields(node)
            case list():
                self.out.append("[")
                for item in node:
                    self.write(item)
                self.out.append("]")
            case _:
                self.out.append(f"{node!r};")

    def fields(self, node: ast.AST, but: tuple[str, ...] = ()) -> None:
        """A node field by field. Empty fields are left out: new versions of Python add some."""
        self.out.append(f"{type(node).__name__}(")
        for name, value in ast.iter_fields(node):
            if name not in but and value is not None and value != []:
                self.out.append(f"{name}=")
                self.write(value)
        self.out.append(")")

    def write_chain(self, node: ast.Name | ast.Attribute) -> None:
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.append(base.attr)
            base = base.value
        attributes.reverse()
        self.mentions.update(attributes)
        if not isinstance(node.ctx, ast.Load):
            self.out.append(type(node.ctx).__name__)
        if not isinstance(base, ast.Name):
            self.write(base)
            self.out.append("".join(f".{name}" for name in attributes) + ";")
            return
        name = base.id
        path = None if name in self.local else self.imports.get(name)
        if path is not None and path.partition(".")[0] in self.reader.own:
            self.refs.append((*path.split("."), *attributes))
            self.out.append(HOLE)
        elif path is not None:
            self.out.append(".".join([path, *attributes]) + ";")
        elif name not in self.local and self.reader.may_define(name):
            self.refs.append(("", name, *attributes))
            self.out.append(HOLE)
        else:
            self.out.append(".".join([name, *attributes]) + ";")


def _binds(statement: ast.stmt) -> list[str]:
    """The names that a statement binds where it stands."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return list(dict.fromkeys(n for target in targets for n in _stored(target)))
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return list(_stored(target))
        case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While():
            inner = [n for n in ast.iter_child_nodes(statement) if isinstance(n, ast.stmt)]
            inner += [s for h in getattr(statement, "handlers", ()) for s in h.body]
            return list(dict.fromkeys(name for s in inner for name in _binds(s)))
        case _ if type(statement).__name__ == "TypeAlias":
            return [statement.name.id]  # type: ignore[attr-defined]
    return []


def _stored(target: ast.expr) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _locals(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that a definition binds inside: they hide those of the module."""
    for top in nodes:
        own = set(_binds(top)) if isinstance(top, ast.stmt) else set()
        shared = {n for node in ast.walk(top) if isinstance(node, ast.Global) for n in node.names}
        for node in ast.walk(top):
            match node:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name not in own:
                    names = [name]
                case ast.arg(arg=name):
                    names = [name]
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if node is not top:
                    names = [name]
                case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                    names = [name]
                case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                    names = [name]
                case _:
                    names = []
            yield from (name for name in names if name not in shared)


def _of_class(statement: ast.stmt) -> ast.stmt:
    """A class's annotation without a value declares a field, and its type may matter."""
    if isinstance(statement, ast.AnnAssign):
        value = ast.Tuple(elts=[statement.annotation], ctx=ast.Load())
        if statement.value is not None:
            value.elts.append(statement.value)
        return ast.Assign(targets=[statement.target], value=value)
    return statement


def _asks_by_text(node: ast.AST) -> bool:
    """Whether it may ask for an attribute by a text: `getattr(run, key)`."""
    return isinstance(node, ast.Name) and node.id in (
        *("getattr", "setattr", "hasattr", "delattr", "attrgetter", "methodcaller"),
    )


def _row_fields(cls: ast.ClassDef) -> tuple[list[str], tuple[str, ...]]:
    """The fields of a row's class in their order, and those that it lists as `display`."""
    fields, display = [], ()
    for statement in cls.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.target.id == "display" and statement.value is not None:
                display = tuple(ast.literal_eval(statement.value))
            elif "ClassVar" not in ast.unparse(statement.annotation):
                fields.append(statement.target.id)
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


def _is_definition(statement: ast.AST) -> bool:
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _is_special(name: str) -> bool:
    return name.startswith("_") and name.endswith("_")


def _is_overload(statement: ast.stmt) -> bool:
    names = [ast.unparse(d) for d in getattr(statement, "decorator_list", ())]
    return any(name.rpartition(".")[2] == "overload" for name in names)


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _is_type_checking(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")
