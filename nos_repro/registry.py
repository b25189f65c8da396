"""What a settings file may name: one Registry for each kind of thing, and tables of rows.

An entry is one file. Those that ship register themselves in modules of their kind's package; one
from outside is named by its module, `my_package.my_module`, in a YAML file.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Generic, Protocol, TypeVar

from nos_repro.errors import ConfigError, nearest, unknown
from nos_repro.extras import advice, import_own

NO_NUMBERS = "the digest follows what a name means, not this module (experiments.digest)"

_foreign: ContextVar[Path | None] = ContextVar("foreign", default=None)
"""The file that is being read, if it is not the user's own and not trusted."""

T = TypeVar("T")
F = TypeVar("F")


@contextmanager
def names_in(file: Path, *, trust: bool) -> Iterator[None]:
    """Within, the names that are looked up come from a data file, such as the settings beside a
    checkpoint. Anybody may have written it, and importing a module runs it: so a name can mean what
    ships, or a module that the user's own files have named already, and other modules only with
    ``trust``."""
    token = _foreign.set(None if trust else file)
    try:
        yield
    finally:
        _foreign.reset(token)


class UntrustedError(ConfigError):
    """A data file names a module that the user has not."""


@dataclass(frozen=True)
class Entry:
    """Where a name's meaning is defined, and the decorator's keywords, if they are literals."""

    name: str
    module: str
    definition: str
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def origin(self) -> str:
        """`my_package.my_module:MyTask`."""
        return f"{self.module}:{self.definition}"


class Registry(Generic[T]):
    """The entries of one kind by name, such as the optimizers.

    ``package`` is where those that ship register themselves: a package or a single module. Their
    decorators are read, not run: only the module of an entry that is asked for is imported.
    ``check(name, value)`` raises ConfigError if a value does not keep its kind's contract; it is
    called when an entry is found, before anything runs. ``build`` makes the value of an entry from
    its name, the decorated thing and the decorator's keywords (default: the decorated thing
    itself). ``recognise`` tells whether something is of this kind: a module from outside need not
    register it if it is the only one there. ``key`` is the setting that names one, for errors.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        *,
        check: Callable[[str, T], None] = lambda name, value: None,
        build: Callable[..., T] | None = None,
        recognise: Callable[[object], bool] = lambda thing: False,
        key: str = "",
    ) -> None:
        self.kind = kind
        self.key = key or kind
        self.package = package
        self._check = check
        self._build = build
        self._recognise = recognise
        self._home = sys._getframe(1).f_globals
        self._entries: dict[tuple[str, str], Entry] = {}
        self._values: dict[Entry, T] = {}
        self._found: dict[str, T] = {}
        self._asked: set[str] = set()

    @functools.cached_property
    def _shipped(self) -> dict[str, Entry]:
        """The entries that ship, as their modules' sources say."""
        written = (entry for spec in _modules(self.package) for entry in _written_entries(spec))
        own = [entry for owner, entry in written if self._home.get(owner) is self]
        assert len({entry.name for entry in own}) == len(own), f"two {self.kind}s of one name"
        return {entry.name: entry for entry in own}

    def register(self, name: str, **facts: Any) -> Callable[[F], F]:
        """Decorator of a class or function: makes ``name`` mean it.

        Raises ConfigError if something that ships has the name already, or if the decorator lacks
        its name or a keyword.
        """
        if not isinstance(name, str):
            raise ConfigError(
                f'{self.kind}: the decorator needs a name, e.g. .register("{name.__name__}")'
            )

        def add(defined: F) -> F:
            try:
                value: Any = defined if self._build is None else self._build(name, defined, **facts)
            except TypeError as error:
                _, _, problem = str(error).partition("() ")
                raise ConfigError(f"{self.kind} '{name}': its decorator: {problem}") from None
            entry = _entry(name, defined, facts)
            if not f"{entry.module}.".startswith(f"{self.package}.") and name in self._shipped:
                raise ConfigError(
                    f"{self.kind} '{name}' of {entry.module} is already registered by"
                    f" {self._shipped[name].module}"
                )
            self._entries[entry.name, entry.origin] = entry
            self._values[entry] = value
            self._found.clear()
            return defined

        return add

    def names(self) -> list[str]:
        """The names of all entries that ship, and of those imported from outside so far."""
        return sorted({*self._shipped, *(entry.name for entry in self._entries.values())})

    def find(self, name: str, key: str = "") -> T:
        """The value of an entry, by its name or by where it is: `my_package.my_module` if this
        module has just one, else `my_package.my_module.MyTask`.

        Raises ConfigError, which names the setting ``key`` (default: the registry's), if there is
        none, or if it does not keep the contract of its kind.
        """
        if name not in self._found:
            entry = self.entry(name, key)
            if entry not in self._values:
                importlib.import_module(entry.module)
            value = self._values[entry]
            self._check(name, value)
            self._found[name] = value
        return self._found[name]

    def entry(self, name: str, key: str = "") -> Entry:
        """Where an entry is defined; one that ships is not imported for that.

        Raises ConfigError if there is none.
        """
        if name in self._shipped:
            return self._shipped[name]
        for entry in reversed(self._entries.values()):
            if entry.name == name:
                return entry
        if not is_path(name):
            raise ConfigError(unknown(self.kind, name, self.names()))
        entry = self._outside(name, key or self.key)
        self._asked.add(name)
        return entry

    def name_path(self, path: str) -> None:
        """Notes that a user's file names something outside, which is not imported yet. Raises
        UntrustedError if only a data file does."""
        self._check_trust(path)
        self._asked.add(path)

    def check(self, name: str) -> None:
        """Raises what `find` would raise, without importing what ships."""
        if name not in self._shipped:
            self.find(name)

    def origins(self, name: str) -> tuple[str, ...]:
        """Where the entry is defined, `my_package.my_module:MyTask`; () if there is none."""
        return (self.entry(name).origin,) if name in self else ()

    def __contains__(self, name: str) -> bool:
        """Whether it is the name of an entry, or the path of a module or thing with one."""
        if name in self.names():
            return True
        try:
            return is_path(name) and bool(self._outside(name, self.key))
        except UntrustedError:
            raise
        except ConfigError:
            return False

    def _check_trust(self, path: str) -> None:
        file = _foreign.get()
        if file is not None and path not in self._asked:
            raise UntrustedError(
                f"{file}: its {self.kind} is the module '{path}', which would run code\n"
                "  if you trust whoever wrote the module and the folder, add --trust"
            )

    def _outside(self, path: str, key: str) -> Entry:
        self._check_trust(path)
        module = import_own(path)
        if module is not None:
            return self._only(module, key)
        parent, _, last = path.rpartition(".")
        module = import_own(parent)
        if module is None:
            own = (
                f"no Python module '{path}'\n"
                "  a name with dots is a module of your own: install its package, put its folder on"
                " PYTHONPATH,\n  or start in the folder that holds it"
            )
            raise ConfigError(f"{key}: {advice(ModuleNotFoundError(name=path)) or own}")
        thing = getattr(module, last, None)
        found = _entry(last, thing)
        for entry in self._entries.values():
            if entry.origin == found.origin or (entry.module, entry.name) == (parent, last):
                return entry
        if thing is None or self._build is not None:
            near = [e.name for e in self._entries.values() if e.module == parent]
            if self._build is None:
                near += [n for n, v in vars(module).items() if self._recognise(v)]
            raise ConfigError(
                f"{key}: no Python module '{path}', and no {self.kind} '{last}' in {parent}"
                + (f"\n  {nearest(last, set(near))}" if near else "")
            )
        self._values[found] = thing
        return found

    def _only(self, module: ModuleType, key: str) -> Entry:
        """The entry of a module: the one that it registers, or else the one that it defines."""
        path = module.__name__
        own = {e.origin: e for e in self._entries.values() if e.module == path}
        if not own and self._build is None:
            things = {_entry(n, v): v for n, v in vars(module).items() if self._recognise(v)}
            own = {entry.origin: entry for entry in things if entry.module == path}
            self._values |= {entry: things[entry] for entry in own.values()}
        found = next(iter(own.values()), None)
        if found is None or len(own) > 1:
            which = '\n  put the decorator .register("a_name") of its registry on what it defines'
            if found is not None:
                which = f": say which, as in {path}.{found.definition}"
            raise ConfigError(f"{key}: {path} must define one {self.kind}, not {len(own)}{which}")
        return found


def _entry(name: str, defined: Any, facts: Mapping[str, Any] = MappingProxyType({})) -> Entry:
    module, definition = (getattr(defined, key, "") for key in ("__module__", "__qualname__"))
    return Entry(name, module, definition, facts)


_DECORATED = re.compile(
    r"^@(\w+)(\.register\((?:[^()]|\([^()]*\))*\))\n(?:.*\n)*?(?:class|def) (\w+)", re.MULTILINE
)


def _written_entries(module: ModuleSpec) -> Iterator[tuple[str, Entry]]:
    """What a module's source registers: the name of the registry, and the entry."""
    source = getattr(module.loader, "get_source", lambda name: None)(module.name) or ""
    for owner, call, definition in _DECORATED.findall(source):
        decorator = ast.parse(owner + call, mode="eval").body
        assert isinstance(decorator, ast.Call)
        facts: dict[str, Any] = {}
        for keyword in decorator.keywords:
            with suppress(ValueError):
                facts[str(keyword.arg)] = ast.literal_eval(keyword.value)
        yield owner, Entry(ast.literal_eval(decorator.args[0]), module.name, definition, facts)


def _modules(package: str) -> Iterator[ModuleSpec]:
    """The module of that name, and those in it if it is a package; none of them is imported."""
    whole = importlib.util.find_spec(package)
    folders = None if whole is None else whole.submodule_search_locations
    inside = pkgutil.iter_modules(folders or [], f"{package}.")
    specs = (found.module_finder.find_spec(found.name, None) for found in inside)
    yield from filter(None, [whole, *specs])


def is_path(name: str) -> bool:
    """Whether it can be the path of something in a Python module: `my_package.my_module`."""
    parts = name.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def require_call(what: str, thing: Any, expected: str, *given: object, **named: object) -> None:
    """Raises ConfigError unless ``thing`` takes these arguments, whatever else it takes.

    ``expected`` is the signature that the error shows, such as "(params, *, lr, ...)".
    """
    if not callable(thing):
        raise ConfigError(f"{what}: expected a function {expected}, got {thing!r}")
    try:
        inspect.signature(thing).bind_partial(*given, **named)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: expected a function {expected}: {error}") from None


def require_result(what: str, result: object, kind: type[T]) -> T:
    """What the function of ``what`` returned. Raises ConfigError unless it is a ``kind``."""
    if not isinstance(result, kind):
        raise ConfigError(
            f"{what}: its function must return {kind.__name__}, got {reprlib.repr(result)}"
        )
    return result


def require_methods(what: str, cls: type, *bases: type) -> None:
    """Raises ConfigError unless ``cls`` has all abstract methods of ``bases``, arguments alike.

    Python itself finds this out only when an object is made, and not at all if the metaclass is not
    ABCMeta, which leaves `abstractmethod` without effect.
    """
    wrong = []
    for name, abstract in [item for base in bases for item in vars(base).items()]:
        if not getattr(abstract, "__isabstractmethod__", False):
            continue
        own = inspect.getattr_static(cls, name)
        if getattr(own, "__isabstractmethod__", False):
            wrong.append(f"{cls.__name__} lacks {_written(name, abstract)}")
        elif not _called_alike(own, abstract):
            wrong.append(
                f"{cls.__name__} has {_written(name, own)}, expected {_written(name, abstract)}"
            )
    if wrong:
        raise ConfigError(f"{what}: " + "\n  ".join(wrong))


def _function(method: Any) -> Any:
    """The function inside a class method, static method or property."""
    return getattr(method, "__func__", None) or getattr(method, "fget", None) or method


def _called_alike(own: Any, expected: Any) -> bool:
    """Whether ``own`` can be called in each way that ``expected`` can: with all its arguments, or
    without those that have a default."""
    if not inspect.isfunction(_function(own)) or isinstance(own, property):
        return True
    every = list(inspect.signature(_function(expected)).parameters.values())
    for given in (every, [p for p in every if p.default is p.empty]):
        named = {p.name: None for p in given if p.kind is p.KEYWORD_ONLY}
        try:
            inspect.signature(_function(own)).bind(*[None] * (len(given) - len(named)), **named)
        except TypeError:
            return False
    return True


def _written(name: str, method: Any) -> str:
    kinds = {classmethod: "@classmethod ", staticmethod: "@staticmethod ", property: "@property "}
    signature = str(inspect.signature(_function(method))).replace("'", "")
    return f"{kinds.get(type(method), '')}{name}{signature}"


class Named(Protocol):
    """A row of a `Table`."""

    @property
    def name(self) -> str: ...


R = TypeVar("R", bound=Named)


class Table(Mapping[str, R]):
    """Rows by their names, in the order in which they are written: `Table(Row("exp", ...), ...)`.

    A trial depends on the rows that it uses, not on their neighbours: `experiments.digest` counts
    each row by itself, which is why a table is written as one call with a row for each argument.
    """

    def __init__(self, *rows: R) -> None:
        self._rows = {row.name: row for row in rows}
        assert len(self._rows) == len(rows), "two rows of one name"

    def __getitem__(self, name: str) -> R:
        return self._rows[name]

    def __contains__(self, name: object) -> bool:  # Mapping's raises and catches a KeyError
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
