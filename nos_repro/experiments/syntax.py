"""Syntax as text: what can decide a number in a definition, with holes for other definitions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

HOLE = "\0"

Chain = tuple[str, ...]
"""A name and the attributes asked of it: the module's own `baselines.sgd` is ("", "baselines",
"sgd"), an import is its whole path."""


@dataclass
class Definition:
    """A top-level statement, a member of a class, a row of a table or a field of it.

    ``text``: its syntax, with a HOLE for each of ``refs``. ``mentions``: the attributes that it
    asks of anything. ``loads``: the modules that it imports when it runs. ``computes``: whether it
    may ask for a name that stands nowhere, as in `getattr(run, key)`. ``bases``: a class's
    own ones; ``foreign``: whether a class from outside has one of a library. ``members`` of a class
    count if something mentions them, those in ``live`` always; the members of a row are the values
    of its fields, by name or by place. ``fields`` are those of a row's class, in order; ``display``
    lists the ones that only print.
    """

    text: str
    refs: list[Chain] = field(default_factory=list)
    mentions: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    computes: bool = False
    bases: list[Chain] = field(default_factory=list)
    foreign: bool = False
    members: list[tuple[str, Definition]] = field(default_factory=list)
    live: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    display: list[str] = field(default_factory=list)


class Imported(NamedTuple):
    """A name that an import binds (`*`: all of a module's), the dotted path that it means, and
    what is loaded for it, a module or a name in one."""

    name: str
    path: str
    loads: str


@dataclass
class Scope:
    """What the names of a module mean.

    ``package``: where relative imports begin. ``own``: the top-level packages whose definitions are
    followed. ``imports`` maps a name to the dotted path that it was imported from, ``bound`` are
    the module's own names, ``stars`` the modules from which it imports everything.
    """

    package: str
    own: frozenset[str]
    imports: dict[str, str] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    stars: list[str] = field(default_factory=list)

    def is_own(self, path: str) -> bool:
        return path.partition(".")[0] in self.own

    def may_define(self, name: str) -> bool:
        """Whether the module, or one from which it imports everything, may define the name."""
        return name in self.bound or any(map(self.is_own, self.stars))

    def imported(self, node: ast.AST) -> Iterator[Imported]:
        """What is bound by the imports in a piece of syntax."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Import):
                for alias in inner.names:
                    path = alias.name if alias.asname else alias.name.partition(".")[0]
                    yield Imported(alias.asname or path, path, alias.name)
            elif isinstance(inner, ast.ImportFrom):
                yield from self._imported_from(inner)

    def _imported_from(self, node: ast.ImportFrom) -> Iterator[Imported]:
        base = node.module or ""
        if node.level:
            above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            base = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            if alias.name == "*":
                yield Imported("*", base, base)
            else:
                path = f"{base}.{alias.name}"
                yield Imported(alias.asname or alias.name, path, path)


def define(nodes: list[ast.AST], scope: Scope, local: Iterable[str] = ()) -> Definition:
    """The definition that the ``nodes`` make together; ``local`` names are not the module's."""
    writer = _Writer(scope, nodes, local)
    for node in nodes:
        writer.write_top(node)
    text, mentions = "".join(writer.out), sorted(writer.mentions)
    return Definition(text, writer.refs, mentions, writer.loads, writer.computes)


class _Writer:
    """Writes syntax as text, the names of other definitions as holes."""

    def __init__(self, scope: Scope, nodes: list[ast.AST], local: Iterable[str]) -> None:
        self.scope = scope
        self.imports = dict(scope.imports)
        self.out: list[str] = []
        self.refs: list[Chain] = []
        self.mentions: set[str] = set()
        self.hidden = [frozenset(local), frozenset(_locals(nodes))]
        imported = [found for node in nodes for found in scope.imported(node)]
        self.imports.update((name, path) for name, path, _ in imported)
        self.loads = [loaded for _, _, loaded in imported]
        inside = [inner for node in nodes for inner in ast.walk(node)]
        self.asks_by_text = any(map(_asks_by_text, inside))
        self.computes = any(map(_computes_names, inside))

    def write_top(self, node: ast.AST) -> None:
        """Writes a definition itself, without its name."""
        if is_definition(node):
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
                self.hide(node, but=("returns", "type_comment", "type_params"))
            case ast.AST() if isinstance(node, SCOPES):
                self.hide(node)
            case ast.arg(arg=name):
                self.out.append(f"{name};")
            case ast.AnnAssign(value=None):
                pass
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self.write(ast.Assign(targets=[target], value=value))
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
                if self.computes and isinstance(value, str) and self.scope.is_own(value):
                    self.loads.append(value)  # import_module("mine.layers")
            case ast.MatchClass(kwd_attrs=names):
                self.mentions.update(names)
                self.fields(node)
            case ast.AST():
                self.fields(node)
            case list():
                self.out.append("[")
                for item in node:
                    self.write(item)
                self.out.append("]")
            case _:
                self.out.append(f"{node!r};")

    def hide(self, node: ast.AST, but: tuple[str, ...] = ()) -> None:
        """Something inside whose own names hide those of the module."""
        self.hidden.append(frozenset(_locals([node])))
        self.fields(node, but)
        self.hidden.pop()

    def fields(self, node: ast.AST, but: tuple[str, ...] = ()) -> None:
        """Writes a node field by field, except empty ones: new versions of Python add some."""
        self.out.append(f"{type(node).__name__}(")
        for name, value in ast.iter_fields(node):
            if name not in but and value is not None and value != []:
                self.out.append(f"{name}=")
                hidden = self.hidden
                if name in ("decorator_list", "defaults", "kw_defaults"):  # evaluated outside
                    self.hidden = hidden[:-1]
                self.write(value)
                self.hidden = hidden
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
        hidden = any(name in names for names in self.hidden)
        path = None if hidden else self.imports.get(name)
        if path is not None and self.scope.is_own(path):
            self.refs.append((*path.split("."), *attributes))
            self.out.append(HOLE)
        elif path is not None:
            self.out.append(".".join([path, *attributes]) + ";")
        elif not hidden and self.scope.may_define(name):
            self.refs.append(("", name, *attributes))
            self.out.append(HOLE)
        else:
            self.out.append(".".join([name, *attributes]) + ";")


SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
"""Syntax that has names of its own."""


def here(top: ast.AST) -> Iterator[ast.AST]:
    """The syntax inside, without what is in a scope of its own there."""
    for node in ast.iter_child_nodes(top):
        yield node
        if not isinstance(node, SCOPES):
            yield from here(node)


def binds(statement: ast.AST) -> list[str]:
    """The names that a statement binds in its own scope."""
    if is_definition(statement):
        return list(_bound(statement))
    return list(dict.fromkeys(name for node in here(statement) for name in _bound(node)))


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that this syntax itself binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.MatchMapping(rest=str(name)):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name


def _locals(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that a definition binds inside: they hide those of the module."""
    for top in nodes:
        own = set(binds(top)) if isinstance(top, ast.stmt) else set()
        inside = list(here(top))
        shared = {n for node in inside if isinstance(node, ast.Global) for n in node.names}
        for node in inside:
            match node:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                    names = [] if name in own else [name]
                case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                    names = [name]
                case _:
                    names = list(_bound(node))
            yield from (name for name in names if name not in shared)


def _asks_by_text(node: ast.AST) -> bool:
    """Whether it may ask for an attribute by a string: `getattr(run, key)`."""
    return isinstance(node, ast.Name) and node.id in (
        *("getattr", "setattr", "hasattr", "delattr", "attrgetter", "methodcaller"),
    )


COMPUTES = frozenset({"asdict", "astuple", "fields", "import_module", "__dict__", "__subclasses__"})
"""What asks for things without their names."""


def _computes_names(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="getattr" | "attrgetter" | "methodcaller"), args=args):
            return not any(isinstance(a, ast.Constant) and isinstance(a.value, str) for a in args)
        case ast.Name(id=name):
            return name in COMPUTES or name in ("globals", "vars", "eval", "exec", "__import__")
        case ast.Attribute(attr=name):
            return name in COMPUTES
    return False


def is_definition(statement: ast.AST) -> bool:
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
