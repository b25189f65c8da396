"""A dataclass made from the values of a settings file where its fields are plain: text, numbers,
truth values, lists, tuples, mappings, and dataclasses of these.

OmegaConf makes every other one (`settings_file.structured`), and says what is wrong with those of
users. It takes half a second for a study of a hundred rows.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from nos_repro.errors import ConfigError, unknown
from nos_repro.experiments.fit import SCALARS, hints_of

MISSING = dataclasses.MISSING


def is_plain(cls: Any, given: Mapping[str, Any]) -> bool:
    """Whether `make` can make a ``cls`` of these values: all fields are plain, none is missing."""
    return _shape(cls)[1] and _is_complete(cls, given)


def make(cls: Any, values: dict[str, Any], where: str = "") -> Any:
    """A ``cls`` of values that are `fitted` to it. Raises ConfigError for a key that it does not
    have, and whatever its own checks raise; OverflowError for a number that is too large."""
    _check_keys(cls, values, where)
    return _made(cls, values)


@functools.cache
def _shape(cls: Any) -> tuple[frozenset[str], bool]:
    """The fields that must be given, and whether all are plain, with defaults of their types."""
    hints, fields = hints_of(cls), dataclasses.fields(cls)
    required = {e.name for e in fields if e.default is MISSING and e.default_factory is MISSING}
    defaults = {e.name: e.default for e in fields if e.default is not MISSING} | {
        e.name: e.default_factory() for e in fields if e.default_factory is not MISSING
    }
    plain = (
        all(map(_is_plain, hints.values()))
        and all(entry.init for entry in fields)
        and all(_fits(hints[name], default) for name, default in defaults.items())
    )
    return frozenset(required), plain


def _is_plain(hint: Any) -> bool:
    if _section(hint) is not None:
        return _shape(_section(hint))[1]
    origin, inner = _parts(hint)
    if origin is None:
        return hint is Any or hint in SCALARS
    return origin in (dict, list, tuple, type(None)) and _is_plain(inner)


def _parts(hint: Any) -> tuple[Any, Any]:
    """`dict`, `list`, `tuple` or `NoneType` (for an optional field), and what is in it, all of one
    type; else None."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        others = [each for each in inner if each is not type(None)]
        return (type(None), others[0]) if len(others) == 1 else (origin, None)
    if origin is tuple:
        return origin, inner[0] if set(inner) <= {inner[0], ...} else None
    return origin, inner[-1] if inner else None


def _fits(hint: Any, default: Any) -> bool:
    """Whether a default is exactly of its field's type."""
    if hint is Any:
        return default is None or type(default) in SCALARS
    origin, inner = _parts(hint)
    if origin is type(None):
        return default is None or _fits(inner, default)
    if origin in (dict, list, tuple) and type(default) is origin:
        parts = default.values() if origin is dict else default
        return all(_fits(inner, part) for part in parts)
    return type(default) is hint


def _is_complete(hint: Any, value: Any) -> bool:
    section = _section(hint)
    origin, inner = _parts(hint)
    if section is not None:
        hints, required = hints_of(section), _shape(section)[0]
        return required <= value.keys() and all(
            _is_complete(hints[key], part) for key, part in value.items() if key in hints
        )
    if value is None or origin is None:
        return True
    if origin is dict:
        return all(_is_complete(inner, part) for part in value.values())
    if origin in (list, tuple):
        return all(_is_complete(inner, part) for part in value)
    return _is_complete(inner, value)


def _check_keys(hint: Any, value: Any, where: str) -> None:
    """Raises ConfigError for the first key that its dataclass does not have."""
    section = _section(hint)
    origin, inner = _parts(hint)
    if section is not None:
        hints = hints_of(section)
        for key, part in value.items():
            path = f"{where}.{key}" if where else key
            if key not in hints:
                raise ConfigError(f"{path}: {unknown('key', key, list(hints))}")
            _check_keys(hints[key], part, path)
    elif origin is type(None) and value is not None:
        _check_keys(inner, value, where)
    elif origin is dict and _section(inner) is not None:
        for key, part in value.items():
            _check_keys(inner, part, f"{where}.{key}")
    elif origin in (list, tuple) and _section(inner) is not None:
        for number, part in enumerate(value):
            _check_keys(inner, part, f"{where}[{number}]")


def _made(hint: Any, value: Any) -> Any:
    section = _section(hint)
    if section is not None:
        hints = hints_of(section)
        return section(**{key: _made(hints[key], part) for key, part in value.items()})
    if hint is float:
        return float(value)
    origin, inner = _parts(hint)
    if value is None or origin is None:
        return value
    if origin is dict:
        return {key: _made(inner, part) for key, part in value.items()}
    if origin in (list, tuple):
        return origin(_made(inner, part) for part in value)
    return _made(inner, value)


def _section(hint: Any) -> Any:
    """The dataclass of a field that is a section of its own; else None."""
    return hint if dataclasses.is_dataclass(hint) else None
