"""The packed form of a table: a folder of small files that are committed and never edited.

| file | holds |
| --- | --- |
| `table.json` | the format, the settings, the space, the code and machines that made it |
| `rules.csv.gz` | a line per distinct rule; its number is the line's, from 0 |
| `strings.bin.gz` | for every string of the space, the number of its rule, little-endian |
| `TASK.csv.gz` | a line per rule and seed that was trained |
| `README.md` | the data card |

The same table gives the same bytes: gzip's time is 0, and lines are sorted.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nos_repro.errors import DataError
from nos_repro.experiments.files import read_file, read_json, write_atomically
from nos_repro.rules.space import Space
from nos_repro.search.child import Child
from nos_repro.search.table.grouping import TableRule
from nos_repro.search.table.rows import TableRow, read, written

FORMAT = 1
"""Raised when a reader of the older form could misread the new one."""
RULES, STRINGS, HEAD = "rules.csv.gz", "strings.bin.gz", "table.json"
RULE_COLUMNS = ["key", "text", "normal", "strings", "refused"]


@dataclass
class Packed:
    """A table's content: the settings that decide its numbers (`TableSettings.identity`), its
    rules, the rule of every string, the rows of every task, and what made them, by the digest of
    the code."""

    settings: dict[str, Any]
    rules: list[TableRule]
    rule_of_string: np.ndarray
    rows: dict[str, list[TableRow]] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    about: str = ""

    @property
    def space(self) -> Space:
        return space_from(self.settings["space"])

    def child(self, task: str) -> Child:
        return Child(**self.settings["tasks"][task])


def space_from(values: Mapping[str, Any]) -> Space:
    """The space that a table's head holds."""
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Space(**given)


def write_packed(folder: Path, packed: Packed) -> None:
    """Writes all files; the head, which names the others by their digests, last. Raises
    StoreError.

    Where there is a head already, one that also names the files as they were is written first: a
    process that is killed between two files leaves a table of which some are new, all of them
    sound.
    """
    files = {RULES: _zipped(_rules_text(packed.rules).encode())}
    width = packed.rule_of_string.dtype.itemsize
    files[STRINGS] = _zipped(packed.rule_of_string.astype(f"<u{width}").tobytes())
    for task, rows in packed.rows.items():
        if rows:
            files[f"{task}.csv.gz"] = _zipped(written(rows, packed.child(task)).encode())
    head = {
        "format": FORMAT,
        **packed.settings,
        "about": packed.about,
        "bytes_per_string": width,
        "files": {name: _digest(data) for name, data in sorted(files.items())},
        "made": packed.made,
    }
    before = {name: read_file(folder / name) for name in files}
    changed = {name: data for name, data in files.items() if data != before[name]}
    if changed and read_file(folder / HEAD) is not None:
        known = {name: before[name] for name in changed}
        was = {name: "" if data is None else _digest(data) for name, data in known.items()}
        _write_head(folder, {**head, "before": was})
    for name, data in changed.items():
        write_atomically(folder / name, data)
    _write_head(folder, head)


def _write_head(folder: Path, head: Mapping[str, Any]) -> None:
    write_atomically(folder / HEAD, (json.dumps(head, indent=1) + "\n").encode())


def read_packed(folder: Path) -> Packed | None:
    """The table in a folder; None if there is none.

    Raises DataError, which names the file, if one is missing, damaged, of another table or of a
    later format; StoreError if one cannot be read.
    """
    data = read_file(folder / HEAD)
    if data is None:
        return None
    try:
        head = read_json(data)
        if head["format"] != FORMAT:
            raise _refused(folder / HEAD, f"is of format {head['format']}, this version reads"
                           f" {FORMAT}: update nos-repro")  # fmt: skip
        keys = ("table", "scale", "space", "refuse", "tasks")
        settings = {key: head[key] for key in keys}
        space = space_from(settings["space"])
        was = dict(head.get("before", {}))
        files = {name: (digest, was.get(name)) for name, digest in dict(head["files"]).items()}
        width = int(head["bytes_per_string"])
        packed = Packed(settings, [], np.zeros(0), {}, list(head["made"]), str(head["about"]))
        children = {task: packed.child(task) for task in dict(settings["tasks"])}
        for task, child in children.items():
            if not ("name" in dict(child.task) and isinstance(child.sweep, dict)):
                raise ValueError(f"tasks.{task} is not a child")
        if not all(isinstance(made, dict) for made in packed.made):
            raise ValueError("made is not a list of what made it")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(folder / HEAD, f"is damaged ({type(error).__name__}: {error})") from None
    packed.rules = _read_rules(folder, _content(folder, RULES, files))
    numbers = _content(folder, STRINGS, files)
    if width not in (2, 4) or len(numbers) != space.size * width:
        raise _refused(folder / STRINGS, f"does not hold the {space.size:,} strings of the space")
    packed.rule_of_string = np.frombuffer(numbers, dtype=f"<u{width}")
    if len(packed.rule_of_string) and packed.rule_of_string.max() >= len(packed.rules):
        raise _refused(folder / STRINGS, "names rules that there are not")
    for task, child in children.items():
        name = f"{task}.csv.gz"
        packed.rows[task] = []
        if name in files and not ("" in files[name] and read_file(folder / name) is None):
            try:
                text = _content(folder, name, files).decode()
                packed.rows[task] = read(text, child, len(packed.rules))
            except ValueError as error:
                raise _refused(folder / name, f"is damaged: {error}") from None
    return packed


def _content(folder: Path, name: str, files: Mapping[str, tuple[str, str | None]]) -> bytes:
    """A file's content, unzipped. Raises DataError unless it is the very file that was written, or
    that was there before while others were being written."""
    data = read_file(folder / name)
    if data is None or name not in files:
        raise _refused(folder / name, "is missing")
    if _digest(data) not in files[name]:
        raise _refused(folder / name, "is damaged, or belongs to another table")
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise _refused(folder / name, "is damaged") from None


def _read_rules(folder: Path, data: bytes) -> list[TableRule]:
    try:
        lines = list(csv.reader(io.StringIO(data.decode())))
        if not lines or lines[0] != RULE_COLUMNS:
            raise ValueError("its columns are others")
        return [
            TableRule(key, text, normal, int(strings), refused)
            for key, text, normal, strings, refused in lines[1:]
        ]
    except ValueError as error:
        raise _refused(folder / RULES, f"is damaged ({error})") from None


def _rules_text(rules: list[TableRule]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RULE_COLUMNS)
    for rule in rules:
        writer.writerow([rule.key, rule.text, rule.normal, rule.strings, rule.refused])
    return text.getvalue()


def _zipped(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _refused(path: Path, how: str) -> DataError:
    return DataError(f"{path} {how}\n  restore the table's folder from a copy")
