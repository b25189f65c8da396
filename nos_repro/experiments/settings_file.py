"""A settings file: found, read with what it is laid over (`base`), checked by a dataclass."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.layers import Values, at, lay_files, spell_out


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


def read_values(path: Path) -> Values:
    """What a study's or search's file says, laid over its base. Raises ConfigError."""
    return lay_files(read_layers(path))


def read_layers(path: Path) -> list[Values]:
    """What a study's or search's file says, the last of the list, and before it what the files say
    that it is laid over. Raises ConfigError, naming the file of those where something is wrong."""
    return [values for _, values in reversed(_chain(path))]


def paper_file(path: Path) -> Path | None:
    """The file that says what the paper did: the nearest one with a scale `paper` of its own, of
    the file and those that it is laid over. So what is laid over a table of the paper's is held
    against that, until it says itself what the paper did."""
    for file, values in _chain(path):
        if at(values, "scales.paper") is not None:
            return file
    return None


def in_base(path: Path, error: NosError, load: Callable[[Path], Any]) -> str:
    """The error of a file, and where its base has the same one by itself, the base's name too."""
    try:
        below = [file for file, _ in _chain(path)][1:]
        if below:
            load(below[0])
    except NosError as own:
        if str(own).endswith(f": {error}"):
            return f"base {own}"
    return str(error)


def _chain(path: Path, above: Sequence[Path] = ()) -> list[tuple[Path, Values]]:
    """The file, what that is laid over, and so on."""
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
    """What is laid over a study is a study, with a name of its own for its records."""
    for kind, other in (("study", "search"), ("search", "study")):
        if kind in below and other in own:
            raise ConfigError(f"base {path.name}: a {kind}, and a {other} cannot be laid over it")
        if kind in below and kind not in own:
            raise ConfigError(
                f"base {path.name}: what is laid over it needs a name of its own,"
                f" e.g. {kind}: my_{kind}"
            )


def read_mapping(path: Path) -> Values:
    """What one file says. Raises ConfigError where it cannot be read or is not a mapping."""
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
