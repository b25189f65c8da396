"""The words of a command line that change a study or search: `key.path=value`.

`+rows.NAME={optimizer: ...}` adds a row; without the + the row has to exist, so that a misspelt
name is an error and not a new row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from nos_repro.errors import ConfigError
from nos_repro.experiments.fit import shown
from nos_repro.experiments.layers import Values, check_rows, lay, lay_files, put, spell_out
from nos_repro.experiments.schema import Row
from nos_repro.experiments.yaml_text import read_yaml

ADDED = "+rows.AdamW='{optimizer: torch.optim.AdamW, sweep: {lr: [0.001]}}'"
ROW_KEYS = "|".join(entry.name for entry in dataclasses.fields(Row))


def command_line(files: Sequence[Values], words: Sequence[str]) -> Values:
    """What the words change in a study or search of these files, as one mapping: their order
    matters only if two of them set the same key. Raises ConfigError."""
    asked: Values = {}
    rows = lay_files(files).get("rows")
    names = list(map(str, rows)) if isinstance(rows, dict) else []
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{named(word)}: not UTF-8") from None
    parsed = [(word, spell_out(_override(word.removeprefix("+"), names))) for word in words]
    added = [name for word, changes in parsed for name in _added(word, changes, names)]
    for word, changes in parsed:
        if isinstance(rows, dict):
            check_rows(
                [*names, *added], changes, f"override {shown(word)}", f"  to add one: {ADDED}"
            )
        asked = lay(asked, changes, f"override {shown(word)}", whole=())
    return asked


def _added(word: str, changes: Values, names: Sequence[str]) -> list[str]:
    """The rows that a word with a + adds to those of the file."""
    if not word.startswith("+"):
        return []
    rows = changes.get("rows")
    if not names or not isinstance(rows, dict) or None in rows.values():
        raise ConfigError(f"{named(word)}: + adds a row to a study, e.g. {ADDED}")
    for name in rows:
        if name in names:
            raise ConfigError(f"{named(word)}: the row {name!r} already exists; to change it,"
                              " leave out the +")  # fmt: skip
    return list(rows)


def _override(word: str, rows: Sequence[str]) -> Values:
    key, equals, value = _halves(word)
    path = _path(key, rows)
    if not equals or not all(path):
        raise ConfigError(
            f"{named(word)}: expected key.path=value, e.g. task.width=2;"
            " the names of rows follow --rows, each in quotes after a --rows of its own"
        )
    try:
        return put({}, path, read_yaml(value))
    except ConfigError as error:
        raise ConfigError(f"{named(word)}: {error}") from None


def _halves(word: str) -> tuple[str, str, str]:
    """The key, `=` and the value; the name of a row in brackets may hold a `=`."""
    named = re.match(r"rows\[.+?\](?=[.=])", word, re.DOTALL)
    start = named.end() if named else 0
    key, equals, value = word[start:].partition("=")
    return word[:start] + key, equals, value


def _path(key: str, rows: Sequence[str]) -> list[str]:
    """`training.epochs`, `rows.SGD.seed`, and `rows[drop(m, 0.3)].seed`."""
    if named := re.fullmatch(r"rows\[(.+)\](?:\.(.*))?", key, re.DOTALL):
        return ["rows", named[1], *(named[2].split(".") if named[2] is not None else [])]
    if key.startswith("rows."):
        return ["rows", *_row_path(key.removeprefix("rows."), rows)]
    return key.split(".")


def named(word: str) -> str:
    """A word of the command line, for an error."""
    return f"override {shown(word)}"


def _row_path(key: str, rows: Sequence[str]) -> list[str]:
    """Splits `drop(m, 0.3).seed` in two: the name of a row may contain dots."""
    own = [name for name in rows if key == name or key.startswith(f"{name}.")]
    found = re.fullmatch(rf"(.+?)(\.(?:{ROW_KEYS})(?:\..*)?)?", key)
    name = max(own, key=len) if own else found[1] if found else key
    rest = key.removeprefix(name).removeprefix(".")
    return [name, *(rest.split(".") if rest else [])]
