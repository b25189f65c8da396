"""The values of a settings file fitted to a dataclass's fields: what is text there stays text, and
what is wrong is said in a user's words. Then the dataclass is made (`settings_file.structured`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from typing import Any

from nos_repro.errors import ConfigError
from nos_repro.experiments.yaml_text import Unusual, numbers, texts, word

SECTION = {"section": True}
"""Metadata of a field whose mapping another dataclass checks later: its text is left as it is."""


YAML_WORDS = {None: "null", True: "true", False: "false"}
LONGEST = 100
"""Characters of a value that an error shows."""


def fitted(cls: Any, values: dict[str, Any], where: str = "") -> dict[str, Any]:
    """``values`` as the fields of ``cls`` want them. Raises ConfigError with the key's path.

    Keys that are not fields are left for whoever makes the dataclass to refuse.
    """
    hints, sections = hints_of(cls), _sections(cls)
    found = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key in sections and value is not None:
            found[key] = texts(_mapping(value, path))
        else:
            found[key] = _fit(hints.get(key, Any), value, path)
    return found


@functools.cache
def hints_of(cls: Any) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return typing.get_type_hints(cls)


@functools.cache
def _sections(cls: Any) -> frozenset[str]:
    return frozenset(e.name for e in dataclasses.fields(cls) if "section" in e.metadata)


def _fit(hint: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        others = [each for each in inner if each is not type(None)]
        if value is None and len(others) < len(inner):
            return None
        return _fit(others[0], value, where) if len(others) == 1 else numbers(value, where)
    if dataclasses.is_dataclass(hint):
        return fitted(hint, _mapping(value, where), where)
    if origin is dict:
        mapping = _mapping(value, where)
        return {key: _fit(inner[1], part, f"{where}.{key}") for key, part in mapping.items()}
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, e.g. [0.1, 1.0], got {shown(value)}")
        asked = len(inner) if origin is tuple and ... not in inner else len(value)
        if len(value) != asked:
            raise ConfigError(f"{where}: expected a list of {asked} values, got {shown(value)}")
        of = inner[0] if inner else Any
        return [_fit(of, part, f"{where}[{number}]") for number, part in enumerate(value)]
    scalar = SCALARS.get(hint)
    return numbers(value, where) if scalar is None else scalar(value, where)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping of names to values, got {shown(value)}")
    return value


def _text(value: Any, where: str) -> str:
    if value is None or isinstance(value, list | tuple | dict):
        raise ConfigError(f"{where}: expected text, got {shown(value)}")
    if "\0" in str(value):
        raise ConfigError(f"{where}: the character NUL cannot be part of {shown(value)}")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any, where: str) -> Any:
    """A number; also one in quotes, or from the environment."""
    read = word(value) if type(value) is str else value
    meant = read.value if isinstance(read, Unusual) else read
    if isinstance(meant, bool) or not isinstance(meant, int | float):
        advice = f": write {read.plain}" if isinstance(read, Unusual) and read.plain else ""
        raise ConfigError(f"{where}: expected a number, got {shown(value)}{advice}")
    if isinstance(meant, float) and not math.isfinite(meant):
        raise ConfigError(f"{where}: expected a finite number, got {shown(meant)}")
    return meant


def _whole(value: Any, where: str) -> int:
    number = _number(value, where)
    if not isinstance(number, int):
        raise ConfigError(f"{where}: expected a whole number, got {shown(value)}")
    return number


def _truth(value: Any, where: str) -> bool:
    read = word(value) if type(value) is str else value
    meant = read.value if isinstance(read, Unusual) else read
    if not isinstance(meant, bool):
        advice = f": write {read.plain}" if isinstance(read, Unusual) and read.plain else ""
        raise ConfigError(f"{where}: expected true or false, got {shown(value)}{advice}")
    return meant


SCALARS = {str: _text, int: _whole, float: _number, bool: _truth}


def shown(value: Any) -> str:
    """A value for an error, in YAML's words; only its beginning, if it is long."""
    text = YAML_WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
