"""A digest of the code that makes a trial's numbers: of what it executes, by content.

From a few roots (the training loop, the task, the optimizer, the schedule, the data) the
definitions that each one refers to are followed, in this package and, for a module of the user's
own, in its top-level package. The digest is a hash of what these definitions say and of how they
refer to each other. What nobody refers to does not count, and neither does any name.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.util
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from nos_repro.experiments import source, syntax
from nos_repro.experiments.source import Module, read_module
from nos_repro.experiments.syntax import Chain, Definition

PACKAGE = __name__.partition(".")[0]

VERSIONED = frozenset({"torch", "torchvision", "numpy", "pytorch_lightning", "lightning_fabric"})
"""Libraries that are not followed, however they are named: their versions are in each record."""
ROUNDS = 4
"""How many references away a change in who refers to whom is seen. What a definition itself says
is in the digest, however far away it is."""


class Sources:
    """The modules of packages, read as they are asked for.

    ``folders`` maps top-level packages to their folders; others are looked for where Python would
    import them from. ``kept``: a folder where what was read is kept for the next process.
    """

    def __init__(self, folders: dict[str, Path] | None = None, kept: Path | None = None) -> None:
        self.places = {top: [folder] for top, folder in (folders or {}).items()}
        self.kept = kept
        self._modules: dict[str, Module | None] = {}
        self._contents: dict[str, tuple[Path | None, bytes]] = {}
        self.asked: set[str] = set()

    def module(self, name: str) -> Module | None:
        """The module of that name; None if there is none, or it has no Python source."""
        self.asked.add(name)
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def content(self, name: str) -> tuple[Path | None, bytes]:
        """The file of a module, or a package's folder, or None, and its text, as first read."""
        if name not in self._contents:
            self._contents[name] = self._look(name)
        return self._contents[name]

    def _look(self, name: str) -> tuple[Path | None, bytes]:
        top, *rest = name.split(".")
        folders = [place.joinpath(*rest) for place in self._places(top)]
        for folder in folders:
            for path in (folder / "__init__.py", folder.parent / f"{folder.name}.py"):
                if path.is_file():
                    return path, path.read_bytes()
        return next((folder for folder in folders if folder.is_dir()), None), b""

    def _read(self, name: str) -> Module | None:
        path, text = self.content(name)
        if path is None:
            return None
        return self._parse(name, path, text) if path.suffix == ".py" else Module(name)

    def _parse(self, name: str, path: Path, text: bytes) -> Module:
        package = path.name == "__init__.py"
        own = {name.partition(".")[0], PACKAGE}
        if self.kept is None:
            return read_module(name, text, package=package, own=own)
        key = f"{name} {package}".encode()
        place = self.kept / f"{hashlib.sha256(_reader() + key + text).hexdigest()[:32]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            return _module(orjson.loads(place.read_bytes()))
        module = read_module(name, text, package=package, own=own)
        with suppress(OSError):  # it only saves time
            place.parent.mkdir(parents=True, exist_ok=True)
            scratch = place.with_suffix(f".{os.getpid()}")
            scratch.write_bytes(orjson.dumps(module))
            scratch.replace(place)
        return module

    def _places(self, top: str) -> list[Path]:
        """The folders of a top-level package, or the name without `.py` of a module in one file."""
        if top in VERSIONED:
            return []
        if top not in self.places:
            if top == PACKAGE:
                self.places[top] = [Path(__file__).parent.parent]
            else:
                self.places[top] = _find(top)
        return self.places[top]

    def digest(self, roots: Sequence[str], *texts: str) -> str:
        """Twelve hexadecimal digits for what the ``roots`` (`module:definition`, and
        `module:TABLE[row]`) execute, and for ``texts``, such as an update rule.

        A root without Python source counts by its name, one that its module does not define at
        the top as the whole module.
        """
        with _without_collector():
            graph = _Graph(self, {root.partition(".")[0] for root in roots if root.endswith("]")})
            starts = [graph.root(root) for root in roots]
            unread = [root for root, found in zip(roots, starts, strict=True) if not found]
            return graph.hash(starts, [*unread, *texts])


@contextmanager
def _without_collector() -> Iterator[None]:
    """Without Python's collector of garbage, which the many small objects would start."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _find(top: str) -> list[Path]:
    """Where Python would import a top-level name from."""
    if top == "__main__":
        file = getattr(sys.modules[top], "__file__", None)
        return [Path(file).with_suffix("")] if file else []
    spec = None
    with suppress(ValueError):  # a module that was made by hand
        spec = importlib.util.find_spec(top)
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin).with_suffix("")] if spec.has_location and spec.origin else []


@functools.cache
def _reader() -> bytes:
    """The source of what reads modules: summaries by another version of it are not used."""
    return Path(source.__file__).read_bytes() + Path(syntax.__file__).read_bytes()


def _module(kept: dict[str, Any]) -> Module:
    """A module's summary as it comes back from a file."""
    kept["definitions"] = [*map(_definition, kept["definitions"])]
    kept["rows"] = {name: _definition(row) for name, row in kept["rows"].items()}
    return Module(**kept)


def _definition(kept: dict[str, Any]) -> Definition:
    kept["members"] = [(name, _definition(member)) for name, member in kept["members"]]
    for key in ("refs", "bases"):
        kept[key] = [tuple(chain) for chain in kept[key]]
    return Definition(**kept)


class _Node:
    """A definition that is reached, in the module whose names it uses.

    ``label``: the name of a class's member, by which it is found. ``targets``: for each reference,
    the definitions that it means, and the part of it that is text.
    """

    __slots__ = ("definition", "label", "module", "targets")

    def __init__(self, module: Module, definition: Definition, label: str = "") -> None:
        self.module = module
        self.definition = definition
        self.label = label
        self.targets: list[tuple[list[_Node], str]] = []


class _Graph:
    """What is reached from the roots. ``rowed``: packages whose tables count by rows that are
    roots; another's tables count whole."""

    def __init__(self, sources: Sources, rowed: set[str]) -> None:
        self.sources = sources
        self.rowed = rowed
        self.nodes: dict[int, _Node] = {}
        self.ahead: list[_Node] = []
        self.mentioned: set[str] = set()
        self.waiting: dict[str, list[_Node]] = defaultdict(list)
        self.acting: dict[str, Module] = {}
        self.whole: set[str] = set()

    def root(self, origin: str) -> list[_Node]:
        """The nodes of `module:definition`, with all that they reach."""
        name, _, path = origin.partition(":")
        module = self.sources.module(name)
        if module is None:
            return []
        if path in module.rows:
            found = [self._row(module, module.rows[path])]
        else:
            definition, _, member = path.partition(".")
            found = self._defined(module, definition) or self._all(module)
            if member:
                self._mention(member)
        self._follow()
        return found

    def _follow(self) -> None:
        while self.ahead:
            node = self.ahead.pop()
            self._act(node.module)
            self._load(node.module, node.definition.loads)
            if node.definition.computes:
                self._open(_top(node.module))
            if node.definition.text == "table" and _top(node.module) not in self.rowed:
                for row in node.module.rows.values():
                    self._row(node.module, row)
            node.targets += [self._resolve(node.module, chain) for chain in node.definition.refs]
            for name in node.definition.mentions:
                self._mention(name)
            whole = _top(node.module) in self.whole or self._is_foreign(node, set())
            for name, definition in node.definition.members:
                member = _Node(node.module, definition, name)
                member.targets.append(([node], ""))
                if whole or name in node.definition.live or name in self.mentioned:
                    self._reach(member)
                else:
                    self.waiting[name].append(member)

    def _is_foreign(self, node: _Node, seen: set[int]) -> bool:
        """Whether a class from outside derives from a library's, also through its own bases."""
        cls = node.definition
        if _top(node.module) == PACKAGE or id(cls) in seen:
            return False
        seen.add(id(cls))
        bases = [base for chain in cls.bases for base in self._resolve(node.module, chain)[0]]
        return cls.foreign or any(self._is_foreign(base, seen) for base in bases)

    def _open(self, package: str) -> None:
        """A package from outside asks for things by names that are not written in it: all that its
        modules define may be meant, those that are imported."""
        if package == PACKAGE or package in self.whole:
            return
        self.whole.add(package)
        for module in [m for m in self.acting.values() if _top(m) == package]:
            self._all(module)
        for members in self.waiting.values():
            for member in [m for m in members if _top(m.module) == package]:
                self._reach(member)

    def _mention(self, name: str) -> None:
        """Every reached class's member of that name may be meant."""
        self.mentioned.add(name)
        for member in self.waiting.pop(name, ()):
            self._reach(member)

    def _reach(self, node: _Node) -> _Node:
        known = self.nodes.get(id(node.definition))
        if known is None:
            self.nodes[id(node.definition)] = known = node
            self.ahead.append(node)
        return known

    def _node(self, module: Module, definition: Definition) -> _Node:
        return self._reach(_Node(module, definition))

    def _row(self, module: Module, row: Definition) -> _Node:
        """A row of a table, without the fields that its class lists as only printed."""
        classes = self._resolve(module, row.refs[0])[0] if row.refs else []
        cls = classes[0].definition if classes else Definition("")
        node = _Node(module, Definition("row" if row.refs else row.text))
        node.targets.append((classes, ""))
        for key, definition in row.members:
            place = int(key) if key.isdecimal() else len(cls.fields)
            name = cls.fields[place] if place < len(cls.fields) else key
            if name not in cls.display:
                node.targets.append(([self._reach(_Node(module, definition, name))], ""))
        node.targets.sort(key=lambda target: [n.label for n in target[0]])
        self._act(module)
        return self.nodes.setdefault(id(row), node)

    def _act(self, module: Module) -> None:
        """A module that is imported runs its statements, after its packages' and imports' own."""
        if module.name in self.acting or not module.counts:
            return
        self.acting[module.name] = module
        for number in module.acts:
            self._node(module, module.definitions[number])
        if _top(module) in self.whole:
            self._all(module)
        self._load(module, [_above(module.name), *module.loads])

    def _load(self, module: Module, paths: Iterable[str]) -> None:
        """A module imports these: modules, or names in them."""
        for path in paths:
            if path and _is_own(module, path):
                imported = self.sources.module(path) or self.sources.module(_above(path))
                if imported is not None:
                    self._act(imported)

    def _resolve(self, module: Module, chain: Chain) -> tuple[list[_Node], str]:
        """What a chain of names means in a module, and the part of it that is text: the attributes
        asked of it, or its name if it means nothing that is followed."""
        if chain[0] == "":
            found, asked = self._defined(module, chain[1]), chain[2:]
            if not found:  # it comes from a library, by a star
                asked = chain[1:]
        else:
            found, asked = self._imported(chain)
        return found, ".".join(asked)

    def _imported(
        self, path: Chain, seen: frozenset[Chain] = frozenset()
    ) -> tuple[list[_Node], Chain]:
        """The longest beginning of the path that is a module, then a name in it, then the rest."""
        for length in range(len(path), 0, -1):
            module = self.sources.module(".".join(path[:length]))
            if module is None:
                continue
            if not module.counts:
                return [], ()
            if length == len(path):
                return self._whole(module), ()
            return self._defined(module, path[length], seen | {path}), path[length + 1 :]
        return [], path[-1:]

    def _defined(
        self, module: Module, name: str, seen: frozenset[Chain] = frozenset()
    ) -> list[_Node]:
        """The definitions of a name in a module, wherever they were imported from."""
        if name in module.names:
            return [self._node(module, module.definitions[n]) for n in module.names[name]]
        paths = [module.imports[name]] if name in module.imports else []
        paths += [f"{star}.{name}" for star in module.stars if name not in module.imports]
        for path in paths:
            chain = tuple(path.split("."))
            if chain not in seen and _is_own(module, path):
                found, _ = self._imported(chain, seen)
                if found:
                    return found
        if "__getattr__" in module.names and _top(module) != PACKAGE and name != "__getattr__":
            return self._defined(module, "__getattr__")
        return []

    def _whole(self, module: Module) -> list[_Node]:
        """A module that is itself a value: anything in a user's own one may be asked for."""
        return [] if module.name.partition(".")[0] == PACKAGE else self._all(module)

    def _all(self, module: Module) -> list[_Node]:
        return [self._node(module, definition) for definition in module.definitions]

    def _order(self, node: _Node) -> list[str]:
        """The fields of a class from outside that are reached: they may be given by place."""
        cls = node.definition
        reached = {name for name, member in cls.members if id(member) in self.nodes}
        return [] if _top(node.module) == PACKAGE else [f for f in cls.fields if f in reached]

    def hash(self, starts: list[list[_Node]], texts: Iterable[str]) -> str:
        """The hash of all nodes, each with what it refers to (Weisfeiler, Lehman), and of roots."""
        nodes = self.nodes.values()
        own = {
            id(n): _sha(n.label, n.definition.text, *(t for _, t in n.targets), *self._order(n))
            for n in nodes
        }
        now = own
        for _ in range(ROUNDS):
            now = {
                id(n): _sha(own[id(n)], *(now[id(t)] for targets, _ in n.targets for t in targets))
                for n in nodes
            }
        roots = [now[id(node)] for start in starts for node in start]
        return _sha(*sorted(now.values()), *roots, *texts)[:12]


def _is_own(module: Module, path: str) -> bool:
    """Whether what the module imports from there is followed."""
    return path.partition(".")[0] in (PACKAGE, module.name.partition(".")[0])


def _top(module: Module) -> str:
    return module.name.partition(".")[0]


def _above(path: str) -> str:
    return path.rpartition(".")[0]


def _sha(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()
