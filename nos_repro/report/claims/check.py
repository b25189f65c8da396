"""What a list of claims may say: the keys and types of an entry, and the names that it uses."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.columns import default_columns
from nos_repro.experiments.settings_file import read_values
from nos_repro.report.claims.results import Results

T = TypeVar("T")
# fmt: off
WORDS = {
    str:   "a text",
    bool:  "true or false",
    int:   "a whole number",
    float: "a number",
}
REFERENCES = {    # fields of a test, and what they name
    "study":   "study",
    "against": "study",
    "search":  "search",
}
# fmt: on


def make(cls: type[T], values: Any, what: str) -> T:
    """A dataclass from the mapping of a file. Raises ConfigError for a key that is unknown or
    missing, and for a value of another type."""
    if not isinstance(values, dict):
        raise ConfigError(f"{what}: expected a mapping, got {values!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    check_keys(values, fields, what)
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{what}: no {name}")
    hints = typing.get_type_hints(cls)
    for name, value in values.items():
        _check_type(value, hints[name], f"{what}.{name}")
    try:
        return cls(**values)
    except NosError as error:
        raise type(error)(f"{what}: {error}") from None


def check_keys(values: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    known = list(known)
    for key in values:
        if key not in known:
            raise ConfigError(f"{what}: {unknown('key', str(key), known)}")


def _check_type(value: Any, hint: Any, where: str) -> None:
    choices = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        if value not in choices:
            raise ConfigError(f"{where}: {unknown('choice', str(value), choices)}")
    elif typing.get_origin(hint) is Sequence:
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{where}: expected a list of at least one, got {value!r}")
        for each in value:
            _check_type(each, choices[0], where)
    elif choices:  # an optional one
        kinds = [kind for kind in choices if kind is not type(None)]
        if value is not None or len(kinds) == len(choices):
            _check_type(value, kinds[0], where)
    elif hint in WORDS:
        wanted = (int, float) if hint is float else hint
        if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
            raise ConfigError(f"{where}: expected {WORDS[hint]}, got {value!r}")


def check_names(test: Any, found: Results, what: str) -> None:
    """Raises ConfigError where a test names a study, search, row, baseline or column that the
    files do not have. Its fields say what they name: `study`, `search`, `column`, `baselines`."""
    kinds: dict[str, list[str]] = {"study": [], "search": []}
    for name, path in found.files.items():
        kinds["search" if "search" in read_values(path) else "study"].append(name)
    for field, kind in REFERENCES.items():
        name = getattr(test, field, "")
        if name and name not in kinds[kind]:
            raise ConfigError(
                f"{what}: {unknown(kind, name, kinds[kind])}\n"
                f"  the file of a {kind} of your own is named on the command line too"
            )
    for study, row in test.named():
        _check(row, read_values(found.files[study]), "rows", f"row of {study}:", what)
    if getattr(test, "column", ""):
        values = read_values(found.files[test.study])
        if "columns" not in values:
            values = {"columns": default_columns(values["task"]["name"])}
        _check(test.column, values, "columns", f"column of {test.study}:", what)
    for name in getattr(test, "baselines", ()):
        values = read_values(found.files[test.search])
        _check(name, values, "baselines", f"baseline of {test.search}:", what)


def _check(name: str, values: Mapping[str, Any], key: str, kind: str, what: str) -> None:
    named = values.get(key)
    known = [each for each in named if named[each] is not None] if isinstance(named, dict) else []
    if name not in known:
        raise ConfigError(f"{what}: {unknown(kind, name, known)}")
