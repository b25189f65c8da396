"""A settings file: YAML, one of its scales and overrides laid over it, checked by a dataclass."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nos_repro.errors import ConfigError, unknown


def find_config(given: str) -> Path:
    """The study file ``given`` names: a path, or the name of one that ships with the package."""
    path = Path(given)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise ConfigError(f"{given[:100]}: {error.strerror}") from None
    known = shipped()
    if path.stem in known and path.parent in (Path(), Path("configs")):
        return known[path.stem]
    raise ConfigError(f"{given or '(empty)'}: no such file; " + unknown("study", path.stem, known))


def shipped() -> dict[str, Path]:
    """The files of studies and searches that ship with the package, by their names."""
    package = Path(str(resources.files("nos_repro")))
    folders = (package.parent / "configs", package / "configs")
    found = {file.stem: file for folder in folders for file in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def named(configs: Sequence[str]) -> dict[str, Path]:
    """The given files by the names of what they state, beside those that ship.

    Raises ConfigError where a file cannot be read, or a name is another file's already.
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
            nearest = "leave it out" if same else "give it another name"
            raise ConfigError(f"{given}: {name} is there already, {found[name].name}; {nearest}")
        found[name] = path
    return found


def read_values(path: Path) -> dict[str, Any]:
    """What the file says. Raises ConfigError where it cannot be read or is no mapping."""
    try:
        values = copy.deepcopy(_parsed(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}") from None
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError("not valid YAML: nested too deep") from None
    if not isinstance(values, dict):
        raise ConfigError("not a study: expected keys such as study, task, rows")
    return {str(key): value for key, value in values.items()}


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """A verb asks a file several things, and YAML is slow."""
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=True)


def is_search(path: Path) -> bool:
    """Whether the file states a search and no study. One that cannot be read is neither: whoever
    loads it says what is wrong."""
    try:
        return "search" in read_values(path)
    except ConfigError:
        return False


def scales_of(values: dict[str, Any]) -> dict[str, Any]:
    """The scales that a file has, in its order, each with what it changes.

    Any plain word is a scale. Two of them mean something more: at `paper` the settings are the
    paper's, and `smoke` proves only that everything runs, so that no claim is tested there unasked.
    """
    scales = values.get("scales", {})
    if not isinstance(scales, dict):
        raise ConfigError("scales: expected one mapping per scale")
    if not scales:
        raise ConfigError("scales: the file has none; add one, e.g. scales: {paper: {}}")
    for name in map(str, scales):
        if not name.isascii() or not name.replace("_", "").isalnum():
            raise ConfigError(
                f"scales: {name!r} must be letters, digits and _, for a folder is named after it"
            )
    return {str(name): {} if scales[name] is None else scales[name] for name in scales}


def merge(values: dict[str, Any], scale: str, overrides: Sequence[str]) -> DictConfig:
    """The file's values with its ``scale`` laid over them, then each `key.path=value` word."""
    scales = scales_of(values)
    if scale not in scales:
        raise ConfigError(unknown("scale", scale, scales))
    base = _spelled_out({key: value for key, value in values.items() if key != "scales"})
    above = [(f"scales.{scale}", scales[scale])]
    above += [(f"override {word!r}", _override(word)) for word in overrides]
    above = [(where, _spelled_out(c) if isinstance(c, dict) else c) for where, c in above]
    merged = base
    for where, changes in above:
        _check_rows(base.get("rows"), changes, where)
        merged = _merge_dicts(merged, changes, where)
    return OmegaConf.create(merged)


def _spelled_out(values: dict[str, Any]) -> dict[str, Any]:
    """`launcher: slurm`, or `launcher=slurm`, is short for the name of the launcher."""
    if isinstance(values.get("launcher"), str):
        return {**values, "launcher": {"name": values["launcher"]}}
    return values


def _check_rows(rows: Any, changes: Any, where: str) -> None:
    """A scale and an override change rows of the file; what they misspell is no new row."""
    named = changes.get("rows") if isinstance(changes, dict) else None
    if isinstance(rows, dict) and isinstance(named, dict):
        for name in named:
            if name not in rows:
                raise ConfigError(f"{where}: {unknown('row', str(name), map(str, rows))}")


def _override(word: str) -> dict[str, Any]:
    key, equals, _ = word.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override {word!r}: expected key.path=value, e.g. task.width=2")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([word]), resolve=True)
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {word!r}: {error}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _merge_dicts(base: dict[str, Any], above: Any, where: str) -> dict[str, Any]:
    """``base`` with ``above`` laid over it: mappings merge, all else is replaced."""
    if not isinstance(above, dict):
        raise ConfigError(f"{where}: expected a mapping, got {above!r}")
    merged = dict(base)
    for key, value in above.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and key != "sweep":
            merged[key] = _merge_dicts(below, value, f"{where}.{key}")
        else:
            merged[key] = value
    return merged


def check_shape(cls: Any, merged: DictConfig, mappings: Sequence[str]) -> None:
    """Raises ConfigError where a key of ``cls`` without a default is missing, where one of
    ``mappings`` is none, or where a value is left open."""
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
        if key in merged and not isinstance(merged[key], DictConfig):
            raise ConfigError(f"{key}: expected a mapping of names to values, got {merged[key]!r}")
    for key in OmegaConf.missing_keys(merged):
        raise ConfigError(f"{key}: '???' is no value")


def structured(cls: Any, values: Any, where: str) -> Any:
    """``values`` as a ``cls``, by OmegaConf's structured configs, errors in our words."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), values))
    except (TypeError, OverflowError) as error:
        problem = "a number is too large" if isinstance(error, OverflowError) else str(error)
        raise ConfigError(f"{where or 'rows or another section'}: {problem}") from None
    except OmegaConfBaseException as error:
        key = ".".join(part for part in (where, str(getattr(error, "full_key", "") or "")) if part)
        first = str(error.msg or error).splitlines()[0]
        if type(error).__name__ == "ConfigKeyError":
            owner = error.object_type if dataclasses.is_dataclass(error.object_type) else cls
            choice = [entry.name for entry in dataclasses.fields(owner)]
            wrong = unknown("key", key.rpartition(".")[2], choice)
            raise ConfigError(f"{key}: {wrong}") from None
        if "List[" in first:
            first = f"expected a list, e.g. [0.1, 1.0]; {first}"
        raise ConfigError(f"{key}: {first}" if key else first) from None
