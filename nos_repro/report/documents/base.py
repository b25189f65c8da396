"""The frame of every document: its format, the version of the schema, its kind."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, TypeAlias

import orjson

from nos_repro.experiments.selection import SampleMean
from nos_repro.report.layout import GLUE, ReportTable

Document: TypeAlias = dict[str, Any]

FORMAT, VERSION = "nos_repro", 1
"""It changes when a reader of older documents would go wrong; new fields do not change it."""


def document(kind: str, **content: Any) -> Document:
    """A document of that kind, with values that JSON has: no NaN, no infinity."""
    return {"format": FORMAT, "version": VERSION, "kind": kind, **plain_data(content)}


def written(found: Document) -> str:
    """The document as JSON to print: indented, in the order of its fields."""
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of all documents."""
    text = resources.files("nos_repro.report.documents").joinpath("schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def plain_data(value: Any) -> Any:
    """Dataclasses become objects; what JSON lacks becomes null (a number that is not finite) or a
    question mark (half of a character)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):  # a file's name may hold bytes that are no text
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_data(part) for key, part in value.items()}
    if dataclasses.is_dataclass(value):
        return {f.name: plain_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Sequence | set | frozenset):
        return [plain_data(part) for part in value]
    return str(value)


def number_data(number: SampleMean | None) -> Document | None:
    return None if number is None else {"mean": number.mean, "std": number.std, "n": number.n}


def table_data(table: ReportTable) -> Document:
    """A table as it is printed: headings, titles, cells as text, notes."""
    return {
        "heading": table.heading,
        "columns": [column.title for column in table.columns],
        "rows": [[_cell_text(cell.text, cell.signs) for cell in row] for row in table.rows],
        "notes": table.notes,
    }


def _cell_text(text: str, signs: str) -> str:
    return f"{text} {signs}".strip().replace(GLUE, " ")
