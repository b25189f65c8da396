"""A settings file: found, read with the files below it (`base`), checked with a dataclass."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.fit import fitted, shown
from nos_repro.experiments.layers import Values, at, lay_files, spell_out
from nos_repro.experiments.named_file import read_named
from nos_repro.experiments.plain_dataclass import is_plain, make
from nos_repro.experiments.references import resolve
from nos_repro.experiments.yaml_text import numbers, read_yaml

TABLES = "nosbench"
"""The folder of the configs that declare tables of rules."""
PLAIN_NAMES = ("study", "search", "table", "base")


def find_config(given: str) -> Path:
    """The study file that ``given`` names: a path, or the name of one that ships here."""
    path = Path(given)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{given[:100]}: {problem}") from None
    known = shipped()
    if path.stem in known and path.parent in (Path(), Path("configs")):
        return known[path.stem]
    if path.parent in (Path("nosbench"), Path("configs/nosbench")) and path.stem in shipped(TABLES):
        return shipped(TABLES)[path.stem]
    name = given if given.isprintable() else repr(given)
    if given.strip() and path.exists():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise ConfigError(f"{name}: is {kind}; name a file, e.g. my_study.yaml")
    raise ConfigError(
        f"{name or '(empty)'}: no such file; "
        + unknown("study", path.stem, known)
        + "\n  a study of your own is named by its file, e.g. my_study.yaml"
    )


def shipped(below: str = "") -> dict[str, Path]:
    """The files of studies and searches that ship with the package, by name; with ``below`` those
    in a folder of the configs, such as TABLES."""
    package = Path(str(resources.files("nos_repro")))
    folders = (package.parent / "configs" / below, package / "configs" / below)
    found = {file.stem: file for folder in folders for file in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def named(configs: Sequence[str]) -> dict[str, Path]:
    """The given files by the names of their studies or searches, together with those that ship.

    Raises ConfigError if a file cannot be read, or if another file has the name.
    """
    found = shipped()
    for given in configs:
        path = find_config(given)
        try:
            values = read_values(path)
        except ConfigError as error:
            raise ConfigError(f"{given}: {error}") from None
        name = str(values.get("study", values.get("search", path.stem)))
        if name in found:
            same = found[name].resolve() == path.resolve()
            nearest = "leave it out" if same else "rename yours"
            raise ConfigError(f"{given}: {name} already exists ({found[name].name}); {nearest}")
        found[name] = path
    return found


def read_values(path: Path) -> Values:
    """What a study's or search's file says, laid over its base. Raises ConfigError."""
    values: Values = numbers(resolve(lay_files(read_layers(path))))
    return values


def read_layers(path: Path) -> list[Values]:
    """The contents of a study's or search's file, last in the list, after those of the files that
    it is laid over. Raises ConfigError, which names the file where something is wrong."""
    return [values for _, values in reversed(_chain(path))]


def paper_file(path: Path) -> Path | None:
    """The file that says what the paper did: of the file and those that it is laid over, the
    nearest one with its own scale `paper`. So a file laid over one of the paper's tables is
    compared with that table, until it says itself what the paper did."""
    for file, values in _chain(path):
        if at(values, "scales.paper") is not None:
            return file
    return None


def in_base(path: Path, error: NosError, load: Callable[[Path], Any]) -> str:
    """The error of a file; if its base alone has the same one, with the base's name."""
    try:
        below = [file for file, _ in _chain(path)][1:]
        if below:
            load(below[0])
    except NosError as own:
        if str(own).endswith(f": {error}"):
            return f"base {own}"
    return str(error)


def _chain(path: Path, above: Sequence[Path] = ()) -> list[tuple[Path, Values]]:
    """The file, the one that it is laid over, and so on."""
    own = spell_out(read_mapping(path))
    if "base" not in own:
        return [(path, own)]
    below = _find_base(own.pop("base"), path)
    files = [*above, path, below]
    if below.resolve() in [file.resolve() for file in files[:-1]]:
        raise ConfigError(f"base: goes in a circle: {' -> '.join(file.name for file in files)}")
    try:
        lower = _chain(below, files[:-1])
    except ConfigError as error:
        raise ConfigError(f"base {below.name}: {error}") from None
    _check_kind(own, lower[0][1], below)
    return [(path, own), *lower]


def _find_base(base: Any, path: Path) -> Path:
    if not isinstance(base, str):
        raise ConfigError(f"base: expected a file, e.g. base: table2.yaml, got {base!r}")
    beside = path.parent / base
    known = shipped()
    if beside.is_file():
        return beside
    if Path(base).stem in known and Path(base).parent in (Path(), Path("configs")):
        return known[Path(base).stem]
    wrong = unknown("study", Path(base).stem, known)
    raise ConfigError(f"base: no file {base!r} beside {path.name}, and {wrong}")


def _check_kind(own: Values, below: Values, path: Path) -> None:
    """Only a study can be laid over a study, and it needs its own name for its records."""
    for kind, other in (("study", "search"), ("search", "study")):
        if kind in below and other in own:
            raise ConfigError(f"base {path.name}: it is a {kind}; a {other} cannot be based on it")
        if kind in below and own.get(kind) == below[kind]:
            raise ConfigError(
                f"base {path.name}: {kind}: {own[kind]} is the base's own name, and their records"
                f" would be mixed; give this file another, e.g. {kind}: my_{own[kind]}"
            )
        if kind in below and kind not in own:
            raise ConfigError(
                f"base {path.name}: a file based on it needs its own name, e.g. {kind}: my_{kind}"
            )


def read_mapping(path: Path) -> Values:
    """The contents of one file. Raises ConfigError if it is unreadable or not a mapping."""
    try:
        text = read_named(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}") from None
    values = _parsed(text)
    if not isinstance(values, dict):
        raise ConfigError("not a study: expected keys such as study, task, rows")
    for key in PLAIN_NAMES:
        if "${" in str(values.get(key, "")):
            raise ConfigError(f"{key}: write the name itself, not a reference to another key")
    return dict(values)


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """Kept, since a verb reads a file several times and YAML is slow. Layers are laid over each
    other by copies (`layers.lay`), and nothing in it is changed."""
    return read_yaml(text)


def is_search(path: Path) -> bool:
    """Whether the file describes a search, not a study. An unreadable one is neither: loading it
    says what is wrong."""
    return _has(path, "search")


def is_table(path: Path) -> bool:
    """Whether the file describes a table of rules."""
    return _has(path, "table")


def _has(path: Path, key: str) -> bool:
    try:
        return key in read_values(path)
    except ConfigError:
        return False


def check_shape(cls: Any, merged: Values, mappings: Sequence[str]) -> None:
    """Raises ConfigError if a key of ``cls`` without a default is missing, if one of ``mappings``
    is not a mapping, or if a value is left open."""
    names = [entry.name for entry in dataclasses.fields(cls)]
    for key in merged:
        if key not in names:
            raise ConfigError(f"{key}: {unknown('key', key, names)}")
    missing = [
        entry.name
        for entry in dataclasses.fields(cls)
        if entry.name not in merged
        and entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}")
    for key in mappings:
        if key in merged and not isinstance(merged[key], dict):
            raise ConfigError(
                f"{key}: expected a mapping of names to values, got {shown(merged[key])}"
            )
    for path in _left_open(merged):
        raise ConfigError(f"{path}: no value given ('???')")


def _left_open(values: Any, where: str = "") -> Iterator[str]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _left_open(value, f"{where}.{key}" if where else key)
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from _left_open(value, f"{where}[{number}]")
    elif values == "???":
        yield where


def structured(cls: Any, values: Values, where: str) -> Any:
    """``values`` as a ``cls``, checked as OmegaConf's structured configs are, with our own error
    messages."""
    try:
        given = fitted(cls, values, where)
        maker = make if is_plain(cls, given) else _made_by_omegaconf
        return maker(cls, given, where)
    except (TypeError, OverflowError) as error:
        problem = "a number is too large" if isinstance(error, OverflowError) else str(error)
        raise ConfigError(f"{where or 'rows or another section'}: {problem}") from None


def _made_by_omegaconf(cls: Any, given: Values, where: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), given))
    except OmegaConfBaseException as error:
        key = ".".join(part for part in (where, str(getattr(error, "full_key", "") or "")) if part)
        first = str(error.msg or error).splitlines()[0]
        if type(error).__name__ == "ConfigKeyError":
            owner = error.object_type if dataclasses.is_dataclass(error.object_type) else cls
            choice = [entry.name for entry in dataclasses.fields(owner)]
            wrong = unknown("key", key.rpartition(".")[2], choice)
            raise ConfigError(f"{key}: {wrong}") from None
        raise ConfigError(f"{key}: {first}" if key else first) from None
