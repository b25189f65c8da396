"""What a settings file may name: one Registry for each kind of thing, and tables of rows.

An entry is one file: what ships registers itself in a module of its kind's package; what comes
from outside is named by its module, `my_package.my_module`, in a YAML file.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from nos_repro.errors import ConfigError, unknown

NO_NUMBERS = "what a name means is followed by itself (experiments.digest)"

T = TypeVar("T")
F = TypeVar("F")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """What a name means, and where that is defined: ``module`` and the name in it."""

    value: T
    module: str
    definition: str

    @property
    def origin(self) -> str:
        """`my_package.my_module:MyTask`."""
        return f"{self.module}:{self.definition}"


class Registry(Generic[T]):
    """The entries of one kind by name, such as the optimizers.

    ``package`` is where those that ship register themselves: a package, each of whose modules is
    imported when a name is looked up, or a single module. ``check(name, value)`` raises
    ConfigError where a value does not keep its kind's contract; it is called when an entry is
    looked up, before anything runs. ``build`` makes the value of an entry from what a decorator
    was put on and the decorator's keywords (default: the decorated thing itself).
    """

    def __init__(
        self,
        kind: str,
        package: str,
        *,
        check: Callable[[str, T], None] = lambda name, value: None,
        build: Callable[..., T] | None = None,
    ) -> None:
        self.kind = kind
        self.package = package
        self._check = check
        self._build = build
        self._entries: dict[str, Entry[T]] = {}
        self._complete = False

    def register(self, name: str, **facts: Any) -> Callable[[F], F]:
        """Decorator of a class or function: makes ``name`` mean it, in a file and everywhere.

        Raises ConfigError where the name is another's already.
        """

        def add(defined: F) -> F:
            value: Any = defined if self._build is None else self._build(name, defined, **facts)
            module, definition = defined.__module__, defined.__qualname__  # type: ignore[attr-defined]
            entry: Entry[T] = Entry(value, module, definition)
            known = self._entries.get(name)
            if known is not None and known.origin != entry.origin:
                raise ConfigError(
                    f"{self.kind} '{name}' of {module} is already registered by {known.module}"
                )
            self._entries[name] = entry
            return defined

        return add

    def names(self) -> list[str]:
        """The names of all entries that ship, and of those imported from outside so far."""
        if not self._complete:
            self._complete = True
            _import_all(self.package)
        return sorted(self._entries)

    def find(self, name: str, key: str = "") -> T:
        """The value of an entry; `my_package.my_module` is the one that this module registers.

        Raises ConfigError, naming the setting ``key`` (default: the kind), where there is none, or
        where it does not keep the contract of its kind.
        """
        return self.entry(name, key).value

    def entry(self, name: str, key: str = "") -> Entry[T]:
        """Like `find`, with where the entry is defined."""
        key = key or self.kind
        entry = self._entries.get(name)
        if entry is None:
            entry = self._outside(name, key) if "." in name else self._shipped(name)
        self._check(name, entry.value)
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self.names()

    def _shipped(self, name: str) -> Entry[T]:
        names = self.names()
        if name not in self._entries:
            raise ConfigError(unknown(self.kind, name, names))
        return self._entries[name]

    def _outside(self, name: str, key: str) -> Entry[T]:
        import_module(name, key)
        own = [entry for entry in self._entries.values() if entry.module == name]
        if len(own) != 1:
            raise ConfigError(f"{key}: {name} must register one {self.kind}, not {len(own)}")
        return own[0]


def import_module(name: str, key: str) -> ModuleType:
    """The module of that name, imported.

    Raises ConfigError naming the setting ``key`` where there is none; an error inside the module is
    the module's, and comes through as it is.
    """
    try:
        found = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        found = None
    if found is None:
        raise ConfigError(
            f"{key}: no Python module '{name}'\n"
            "  a name with dots is a module of your own: is it installed, or on PYTHONPATH?"
        )
    return importlib.import_module(name)


def _import_all(package: str) -> None:
    module = importlib.import_module(package)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        importlib.import_module(f"{package}.{found.name}")


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

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
