"""How layers merge: a settings file over its base, a scale over both, then the command line.

Mappings merge key by key, everything else is replaced; a `sweep` is replaced as a whole. In `rows`,
`columns`, `baselines`, `scales` and an optimizer's `split` a null removes the entry below it, and
`split: null` the split itself. A part of a split that is a bare name below takes options above.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from nos_repro.errors import ConfigError, unknown
from nos_repro.experiments.references import resolve

Values = dict[str, Any]

OPEN = ("rows", "columns", "baselines")
SHORT = ("task", "algorithm", "launcher")
"""Sections that may be a bare name: `launcher: slurm`, or `launcher=slurm`."""


DEFAULT_SCALE = "default"
LONGEST_SCALE = 100


def scale_in_effect(values: Values) -> str:
    """The scale that is meant when none is asked for: the paper's, else the first of the file."""
    scales = scales_of(values)
    return "paper" if "paper" in scales else next(iter(scales))


def scales_of(values: Values) -> Values:
    """The scales that a file has, in its order, each with what it changes.

    A scale can be any plain word. Two have a meaning: at `paper` the settings are the paper's, and
    `smoke` proves only that everything runs, so that claims are tested there only on request. A
    file that lists none has one, `default`.
    """
    scales = values.get("scales") or {DEFAULT_SCALE: {}}
    if not isinstance(scales, dict):
        raise ConfigError("scales: expected one mapping per scale")
    for name in scales:
        if not name.isascii() or not name.replace("_", "").isalnum():
            raise ConfigError(
                f"scales: {name!r} must be letters, digits and _, since a folder is named after it"
            )
        if len(name) > LONGEST_SCALE:
            raise ConfigError(f"scales: {name[:LONGEST_SCALE]}... is too long for a folder")
    return {name: {} if changes is None else changes for name, changes in scales.items()}


def spell_out(values: Values) -> Values:
    """``values`` with short forms spelt out: `launcher: slurm` is short for the launcher's name,
    and `optimizer: {name: adam, eps: 1}` for a row's `optimizer` and its `options`; `optimizer:
    {split: ...}` is the optimizer of that name."""
    long = {
        key: {"name": value} if key in SHORT and isinstance(value, str) else value
        for key, value in values.items()
    }
    if isinstance(long.get("rows"), dict):
        long["rows"] = {str(name): _spell_out_row(name, row) for name, row in long["rows"].items()}
    if isinstance(long.get("scales"), dict):
        long["scales"] = {
            str(name): spell_out(changes) if isinstance(changes, dict) else changes
            for name, changes in long["scales"].items()
        }
    return long


def _spell_out_row(name: str, row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    long = dict(row)
    for key, options in (("optimizer", "options"), ("schedule", "schedule_options")):
        if isinstance(row.get(key), bool | int | float):
            raise ConfigError(
                f"rows.{name}.{key}: expected a name, got {row[key]}; a rule is 'rule: {row[key]}'"
            )
        if isinstance(row.get(key), dict):
            given = dict(long.pop(key))
            if "name" in given:
                long[key] = given.pop("name")
            elif "split" in given and key == "optimizer":
                long[key] = "split"
            long[options] = lay(given, row.get(options) or {}, f"rows.{options}")
    return long


def lay_files(files: Sequence[Values]) -> Values:
    """The files laid over each other as one mapping; the lowest comes first."""
    merged: Values = {}
    for own in files:
        merged = _lay_over(merged, own) if merged else own
    return merged


def _lay_over(below: Values, own: Values) -> Values:
    rows, new_rows = below.get("rows"), own.get("rows")
    if isinstance(rows, dict) and isinstance(new_rows, dict):
        for name, row in new_rows.items():
            new = isinstance(row, dict) and row.get("optimizer")
            if name not in rows and not new:
                wrong = unknown("row", name, rows)
                raise ConfigError(f"rows: {wrong}\n  a new row needs an optimizer")
        gone = [name for name, row in new_rows.items() if row is None]
        below, own = _without_rows(below, gone), _without_rows(own, gone, scales=False)
    scales, new_scales = below.get("scales"), own.get("scales")
    if isinstance(scales, dict) and isinstance(new_scales, dict):
        gone = [name for name in scales if name in new_scales and new_scales[name] is None]
        below = {**below, "scales": _less(scales, gone)}
        own = {**own, "scales": _less(new_scales, gone)}
    return lay(below, own, "")


def _without_rows(values: Values, names: Sequence[str], *, scales: bool = True) -> Values:
    """``values`` without these rows, also in the figure and, if ``scales``, in the scales."""
    less = dict(values)
    if isinstance(values.get("rows"), dict):
        less["rows"] = _less(values["rows"], names)
    figure = values.get("figure")
    if isinstance(figure, dict) and isinstance(figure.get("rows"), list):
        shown = [name for name in figure["rows"] if name not in names]
        less["figure"] = {**figure, "rows": shown}
    if scales and isinstance(values.get("scales"), dict):
        less["scales"] = {
            name: _without_rows(changes, names) if isinstance(changes, dict) else changes
            for name, changes in values["scales"].items()
        }
    return less


def merge(
    files: Sequence[Values],
    scale: str,
    asked: Values,
) -> Values:
    """The files, then their ``scale`` over them, then what is ``asked`` on the command line."""
    values = lay_files(files)
    scales = scales_of(values)
    if scale not in scales:
        raise ConfigError(unknown("scale", scale, scales))
    merged = {key: value for key, value in values.items() if key != "scales"}
    changes, where = scales[scale], f"scales.{scale}"
    check_rows(merged.get("rows"), changes, where)
    merged = lay(lay(merged, changes, where), asked, "")
    return _without_nulls(spell_out(resolve(merged)))


def _without_nulls(merged: Values) -> Values:
    rows = merged.get("rows")
    if isinstance(rows, dict):
        merged = _without_rows(merged, [name for name, row in rows.items() if row is None])
        merged["rows"] = {name: _without_parts(row) for name, row in merged["rows"].items()}
    for key in OPEN:
        if isinstance(merged.get(key), dict):
            named = merged[key]
            merged[key] = _less(named, [name for name in named if named[name] is None])
    return merged


def _without_parts(row: Any) -> Any:
    options = at(row, "options")
    if not isinstance(options, dict) or "split" not in options:
        return row
    split = options["split"]
    if split is None:
        return {**row, "options": _less(options, ["split"])}
    if not isinstance(split, dict):
        return row
    return put(row, ("options", "split"), _less(split, [k for k in split if split[k] is None]))


def check_rows(rows: Any, changes: Any, where: str, more: str = "") -> None:
    """A scale or an override changes rows of the file; a misspelt name is not a new row."""
    named = changes.get("rows") if isinstance(changes, dict) else None
    if isinstance(rows, dict | list) and isinstance(named, dict):
        for name in named:
            if name not in rows:
                wrong = unknown("row", name, rows)
                raise ConfigError("\n".join(filter(None, (f"{where}: {wrong}", more))))


def lay(below: Values, above: Any, where: str, whole: Collection[str] = ("sweep",)) -> Values:
    """``below`` with ``above`` laid over it; the keys ``whole`` are replaced as a whole."""
    if not isinstance(above, dict):
        raise ConfigError(f"{where}: expected a mapping, got {above!r}")
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if where.endswith(".options.split") and isinstance(value, dict):
            under = long_part(under)
        if isinstance(under, dict) and isinstance(value, dict) and key not in whole:
            merged[key] = lay(under, value, f"{where}.{key}", whole)
        else:
            merged[key] = value
    return merged


def long_part(part: Any) -> Any:
    """A part of a split, its name spelt out: `rest: adam` is short for `rest: {name: adam}`."""
    return {"name": part} if isinstance(part, str) else part


def _less(values: Values, names: Sequence[str]) -> Values:
    return {name: value for name, value in values.items() if name not in names}


def at(values: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    for key in path.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def put(values: Values, path: Sequence[str], value: Any) -> Values:
    """A copy of ``values`` with another ``value`` at a path."""
    first, *rest = path
    under = values.get(first)
    return {**values, first: put(under if isinstance(under, dict) else {}, rest, value)
            if rest else value}  # fmt: skip
