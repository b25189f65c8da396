"""The words of a command line that change a study or search: `key.path=value`.

`+rows.NAME={optimizer: ...}` adds a row; without the + the row has to exist, so that a misspelt
name is an error and not a new row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nos_repro.errors import ConfigError
from nos_repro.experiments.layers import Values, check_rows, lay, lay_files, put, spell_out
from nos_repro.experiments.schema import Row

ADDED = "+rows.AdamW='{optimizer: torch.optim.AdamW, sweep: {lr: [0.001]}}'"
ROW_KEYS = "|".join(entry.name for entry in dataclasses.fields(Row))


def command_line(files: Sequence[Values], words: Sequence[str]) -> Values:
    """What the words change in a study or search of these files, as one mapping: their order
    matters only if two of them set the same key. Raises ConfigError."""
    asked: Values = {}
    rows = lay_files(files).get("rows")
    names = list(map(str, rows)) if isinstance(rows, dict) else []
    parsed = [(word, spell_out(_override(word.removeprefix("+"), names))) for word in words]
    added = [name for word, changes in parsed for name in _added(word, changes, names)]
    for word, changes in parsed:
        if isinstance(rows, dict):
            check_rows([*names, *added], changes, f"override {word!r}", f"  to add one: {ADDED}")
        asked = lay(asked, changes, f"override {word!r}", whole=())
    return asked


def _added(word: str, changes: Values, names: Sequence[str]) -> list[str]:
    """The rows that a word with a + adds to those of the file."""
    if not word.startswith("+"):
        return []
    rows = changes.get("rows")
    if not names or not isinstance(rows, dict) or None in rows.values():
        raise ConfigError(f"override {word!r}: + adds a row to a study, e.g. {ADDED}")
    for name in rows:
        if name in names:
            raise ConfigError(f"override {word!r}: the row {name!r} already exists; to change it,"
                              " leave out the +")  # fmt: skip
    return list(rows)


def _override(word: str, rows: Sequence[str]) -> Values:
    key, equals, value = word.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override {word!r}: expected key.path=value, e.g. task.width=2")
    try:
        if not key.startswith("rows."):
            return _plain(word)
        path = ["rows", *_row_path(key.removeprefix("rows."), rows)]
        return put({}, path, _plain(f"value={value}")["value"])
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {word!r}: {error}") from None


def _plain(word: str) -> Values:
    values = OmegaConf.to_container(OmegaConf.from_dotlist([word]), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _row_path(key: str, rows: Sequence[str]) -> list[str]:
    """Splits `drop(m, 0.3).seed` in two: the name of a row may contain dots."""
    own = [name for name in rows if key == name or key.startswith(f"{name}.")]
    found = re.fullmatch(rf"(.+?)(\.(?:{ROW_KEYS})(?:\..*)?)?", key)
    name = max(own, key=len) if own else found[1] if found else key
    rest = key.removeprefix(name).removeprefix(".")
    return [name, *(rest.split(".") if rest else [])]
