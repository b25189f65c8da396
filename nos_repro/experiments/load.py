"""From a YAML file, a scale and overrides to a checked Study. Every mistake is reported here."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.columns import check_columns, default_columns
from nos_repro.experiments.grid import Point, options_at, points, row_settings, seeds, sweep_trial
from nos_repro.experiments.layers import Values
from nos_repro.experiments.matrices import check_only_matrices, of_matrices
from nos_repro.experiments.schema import Row, Study
from nos_repro.experiments.sections import NamedSection, merged_settings
from nos_repro.experiments.settings_file import (
    check_shape,
    in_base,
    paper_file,
    read_layers,
    structured,
)
from nos_repro.optim.grouping import parts_of
from nos_repro.optim.lookup import (
    alone,
    find_optimizer,
    in_language,
    know_optimizer,
    know_schedule,
)
from nos_repro.rules.states import nodes
from nos_repro.tasks.registry import describe

# fmt: off
OURS = {
    "lr":           "sweep it, e.g. sweep: {lr: [0.1]}",
    "weight_decay": "sweep it, e.g. sweep: {weight_decay: [5.0e-4]}",
    "seed":         "a row has one of its own, e.g. seed: 1",
    "total_steps":  "it follows from training.epochs",
    "params":       "the task brings them",
    "name":         "it is the row's optimizer or schedule",
}
# fmt: on


def task_keys(name: str) -> set[str]:
    """The keys that the section of a task of that name may have."""
    return {"name", *(entry.name for entry in dataclasses.fields(describe(name).Settings))}


def launcher_keys(name: str) -> set[str] | None:
    """This machine has no settings; those of a cluster are read in `launch.settings`."""
    return {"name"} if name == "local" else None


SEEDS = 2**63
LAUNCHER = NamedSection("launcher", launcher_keys)
SECTIONS = (NamedSection("task", task_keys), LAUNCHER)


def load_study(
    path: Path,
    *,
    scale: str = "paper",
    overrides: Sequence[str] = (),
    rows: Iterable[str] = (),
    check: Callable[[Study], object] = lambda study: None,
    trying: bool = True,
) -> Study:
    """Reads, merges and checks a study.

    ``overrides`` are words of `experiments.overrides`, applied last; ``rows`` are names or patterns
    of rows to keep. ``check`` raises for mistakes that only a later room can see, such as an
    unknown figure. ``trying``: whether every optimizer and schedule is made, to see whether the
    values of its options are possible, which takes torch; if not, only their names are checked.
    Raises ConfigError (RuleError for a rule's text) with file, key and choice.
    """
    try:
        files = read_layers(path)
        if "search" in files[-1]:
            raise ConfigError("a search, not a study: use `search`")
        if "table" in files[-1]:
            raise ConfigError("a table of rules, not a study: use `table`")
        study = _build(merged_settings(files, scale, overrides, SECTIONS), scale)
        paper = study if scale == "paper" and not overrides else None
        task = task_section(study.task)
        study = dataclasses.replace(
            study,
            task=task,
            columns=study.columns or default_columns(task["name"]),
            paper_protocol=_paper_protocol(path, paper) if study.source else {},
        )
        check_columns(study.task["name"], study.columns)
        _check_papers_cells(study)
        _check_figure(study)
        study = dataclasses.replace(study, rows={n: study.rows[n] for n in _chosen(study, rows)})
        _check_optimizers(study, trying)
        check(study)
    except NosError as error:
        said = in_base(path, error, lambda base: load_study(base, scale=scale, trying=trying))
        raise type(error)(f"{path} (scale {scale}): {said}") from None
    return study


def _check_papers_cells(study: Study) -> None:
    for name, row in study.rows.items():
        for column in row.paper:
            if column not in study.columns:
                raise ConfigError(unknown(f"rows.{name}.paper", column, study.columns))


def _check_figure(study: Study) -> None:
    """Checks only the shape of the section; `report.figures` knows the kinds."""
    section = study.figure or {}
    if not isinstance(section.get("kind", ""), str):
        raise ConfigError(f"figure.kind: expected a name, got {section['kind']!r}")
    rows = section.get("rows", [])
    if not isinstance(rows, list):
        raise ConfigError(f"figure.rows: expected a list of rows, got {rows!r}")
    for name in rows:
        if name not in study.rows:
            raise ConfigError(unknown("figure.rows", str(name), study.rows))


def _build(merged: Values, scale: str) -> Study:
    if "scale" in merged:
        raise ConfigError("scale: is chosen with --scale, not in the file")
    if "paper_protocol" in merged:
        raise ConfigError("paper_protocol: not a key; it follows from the file's scale 'paper'")
    mappings = ("task", "rows", "columns", "training", "selection", "sweep", "device", "launcher")
    check_shape(Study, merged, mappings)
    if merged.get("columns") == {}:
        raise ConfigError("columns: a table needs one; leave the key out for the usual columns")
    for name, title in merged.get("columns", {}).items():
        if not isinstance(title, str):
            raise ConfigError(f"columns.{name}: expected the column's title, got {title!r}")
    merged["scale"] = scale
    return _in_its_language(structured(Study, merged, ""))


def _in_its_language(study: Study) -> Study:
    """The study whose rules each say themselves which edition of the language they are written in,
    as trials and records do."""
    rows = dict(study.rows)
    for name, row in rows.items():
        try:
            written = in_language(row.optimizer, study.language)
            options = _parts_in_language(row, study.language)
        except NosError as error:
            raise type(error)(f"rows.{name}: {error}") from None
        rows[name] = dataclasses.replace(row, optimizer=written, options=options)
    return dataclasses.replace(study, rows=rows) if study.language != 1 else study


def _parts_in_language(row: Row, language: int) -> dict[str, Any]:
    """The row's options; the rules in a split say which edition of the language they are in."""
    if language == 1 or row.optimizer != "split":
        return row.options
    split = dict(row.options.get("split") or {})
    for part in parts_of(split):
        written = in_language(part.name, language)
        given = split[part.label]
        split[part.label] = written if isinstance(given, str) else {**given, "name": written}
    return {**row.options, "split": split}


def task_section(section: dict[str, Any]) -> dict[str, Any]:
    """The task's section, checked against the task's own settings, with all defaults filled in."""
    values = dict(section)
    name = values.pop("name", None)
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError("task.name: say which task is trained, e.g. name: wide_resnet")
    settings = structured(describe(name).Settings, values, "task")
    filled: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return {"name": name, **filled}


def _paper_protocol(path: Path, known: Study | None) -> dict[str, Any]:
    """What the file says the paper did, whatever scale and overrides are asked for; {} if nothing.

    A table prints the paper's numbers beside ours, and has to say which protocol each belongs to.
    ``known`` is the study at its scale `paper`, if it is already built.
    """
    file = paper_file(path)
    if file is None:
        return {}
    if known is None or file != path:
        known = _build(merged_settings(read_layers(file), "paper", sections=SECTIONS), "paper")
    study = known
    parts: dict[str, Any] = {
        "training": study.training,
        "selection": study.selection,
        "halving": study.halving,
    }
    return {
        "task": task_section(study.task),
        **{key: dataclasses.asdict(part) for key, part in parts.items() if part is not None},
        "rows": {name: row_settings(row, study) for name, row in study.rows.items()},
    }


def _chosen(study: Study, patterns: Iterable[str]) -> list[str]:
    wanted = list(patterns)
    if not wanted:
        return list(study.rows)
    if study.halving is not None:
        raise ConfigError(
            "--rows: halving ranks all rows of a study against each other; leave --rows out"
        )
    kept: set[str] = set()
    for pattern in wanted:
        exact = {pattern} & study.rows.keys()
        found = exact or {n for n in study.rows if fnmatch.fnmatchcase(n, pattern)}
        if not found:
            raise ConfigError(unknown("row", pattern, study.rows))
        kept |= found
    return [name for name in study.rows if name in kept]


def _check_optimizers(study: Study, trying: bool) -> None:
    check_optimizer, check_schedule = know_optimizer, know_schedule
    if trying:
        from nos_repro.experiments.parameters import check_parameters
        from nos_repro.optim.factory import check_optimizer, check_schedule
    for name, row in study.rows.items():
        try:
            check_schedule(row.schedule or study.schedule, **_named(row.schedule_options))
            grid = points(study, row)
            _check_seeds(study, row)
            _check_settings(study, row, grid)
            for values in _options(grid):
                options = _named(options_at(row, values))
                check_optimizer(row.optimizer, **options)
                if trying:
                    check_parameters(study.task, row.optimizer, options)
            if trying:
                _check_weight_decay(row, grid)
                _check_matrices(study, row)
        except NosError as error:
            raise type(error)(f"rows.{name}: {error}") from None
        except OverflowError:
            raise ConfigError(f"rows.{name}: a number is too large") from None


def _check_weight_decay(row: Row, grid: Iterable[Point]) -> None:
    if not any(dict(point.values).get("weight_decay") for point in grid):
        return
    for where, name, options in alone(row.optimizer, row.options):
        if "weight_decay" not in options and "weight_decay" not in find_optimizer(name).accepted:
            raise ConfigError(
                f"sweep.weight_decay: {where}optimizer '{name}' takes no weight_decay"
            )


def _check_matrices(study: Study, row: Row) -> None:
    """Raises ConfigError if the row's rule cannot update all parameters of the task."""
    rule = find_optimizer(row.optimizer).rule_with(row.options)
    for function in of_matrices(() if rule is None else nodes(rule.expr, rule.states)):
        check_only_matrices(function, study.task)


def _options(grid: Iterable[Point]) -> list[dict[str, Any]]:
    """What the points pass to the optimizer besides rate and decay, each combination once."""
    found = {}
    for point in grid:
        found[repr(point.swept)] = point.swept
    return list(found.values())


def _named(options: dict[str, Any]) -> dict[str, Any]:
    """``options``; ConfigError for one that the suite itself passes to optimizer or schedule."""
    for option, instead in OURS.items():
        if option in options:
            raise ConfigError(f"'{option}' cannot be set in options: {instead}")
    return options


def _check_seeds(study: Study, row: Row) -> None:
    asked = seeds(study, row)
    wrong = asked[0] if not 0 <= asked[0] < SEEDS else SEEDS if asked[-1] >= SEEDS else None
    if wrong is not None:
        raise ConfigError(
            f"seed must be between 0 and 2^63, got {wrong} (selection.seed and the row's)"
        )


def _check_settings(study: Study, row: Row, grid: Sequence[Point]) -> None:
    """Checks all settings of the first point, and the values that differ in the other points."""
    if not _is_finite([sweep_trial(study, row, grid[0]).to_json(), study.sweep, row.sweep]):
        wrong = (point for point in grid if not _is_finite(point.values))
        raise ConfigError(f"{next(wrong, grid[0])}: a setting is infinite or NaN")


def _is_finite(settings: Any) -> bool:
    try:
        json.dumps(settings, allow_nan=False)
    except ValueError:
        return False
    return True
