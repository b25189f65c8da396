"""From a YAML file, a scale and overrides to a checked Study. Everything wrong is said here."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.grid import Point, points, repeat_trials, sweep_trial
from nos_repro.experiments.schema import SCALES, Row, Selection, Study
from nos_repro.experiments.trial import Training
from nos_repro.optim.factory import check_optimizer, check_schedule
from nos_repro.tasks import find_task

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


def find_config(given: str) -> Path:
    """The study file ``given`` names: a path, or the name of one that ships with the package."""
    path = Path(given)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise ConfigError(f"{given[:100]}: {error.strerror}") from None
    package = Path(str(resources.files("nos_repro")))
    folders = [package / "configs", package.parent / "configs"]
    for folder in folders:
        shipped = folder / f"{path.stem}.yaml"
        if path.stem and shipped.is_file() and path.parent in (Path(), Path("configs")):
            return shipped
    names = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise ConfigError(f"{given or '(empty)'}: no such file; " + unknown("study", path.stem, names))


def load_study(
    path: Path, *, scale: str = "paper", overrides: Sequence[str] = (), rows: Iterable[str] = ()
) -> Study:
    """Reads, merges and checks a study.

    ``overrides`` are `key.path=value` words, applied last; ``rows`` are names or patterns of rows
    to keep. Raises ConfigError (RuleError for a rule's text) naming file, key and choice.
    """
    try:
        values = _read(path)
        study = _build(_merge(values, scale, overrides), scale)
        study = dataclasses.replace(
            study, task=_task(study.task), paper_protocol=_paper_protocol(values)
        )
        study = dataclasses.replace(study, rows={n: study.rows[n] for n in _chosen(study, rows)})
        _check_optimizers(study)
    except NosError as error:
        raise type(error)(f"{path} (scale {scale}): {error}") from None
    return study


def _read(path: Path) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}") from None
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError("not valid YAML: nested too deep") from None
    if not isinstance(values, dict):
        raise ConfigError("not a study: expected keys such as study, task, rows")
    return {str(key): value for key, value in values.items()}


def _merge(values: dict[str, Any], scale: str, overrides: Sequence[str]) -> DictConfig:
    scales = values.get("scales", {})
    if not isinstance(scales, dict):
        raise ConfigError("scales: expected one mapping per scale")
    for name in scales:
        if name not in SCALES:
            raise ConfigError(unknown("scale", str(name), SCALES))
    if scale not in scales:
        raise ConfigError(unknown("scale", scale, scales))
    base = {key: value for key, value in values.items() if key != "scales"}
    above = [(f"scales.{scale}", {} if scales[scale] is None else scales[scale])]
    above += [(f"override {word!r}", _override(word)) for word in overrides]
    merged = base
    for where, changes in above:
        _check_rows(base.get("rows"), changes, where)
        merged = _merge_dicts(merged, changes, where)
    return OmegaConf.create(merged)


def _check_rows(rows: Any, changes: Any, where: str) -> None:
    """A scale and an override change rows of the file; what they misspell is no new row."""
    named = changes.get("rows") if isinstance(changes, dict) else None
    if isinstance(rows, dict) and isinstance(named, dict):
        for name in named:
            if name not in rows:
                raise ConfigError(f"{where}: {unknown('row', str(name), map(str, rows))}")


def _override(word: str) -> dict[str, Any]:
    key, equals, _ = word.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override {word!r}: expected key.path=value, e.g. task.width=2")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([word]), resolve=True)
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {word!r}: {error}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _merge_dicts(base: dict[str, Any], above: Any, where: str) -> dict[str, Any]:
    """``base`` with ``above`` laid over it: mappings merge, all else is replaced."""
    if not isinstance(above, dict):
        raise ConfigError(f"{where}: expected a mapping, got {above!r}")
    merged = dict(base)
    for key, value in above.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and key != "sweep":
            merged[key] = _merge_dicts(below, value, f"{where}.{key}")
        else:
            merged[key] = value
    return merged


def _build(merged: DictConfig, scale: str) -> Study:
    if "scale" in merged:
        raise ConfigError("scale: is chosen with --scale, not in the file")
    if "paper_protocol" in merged:
        raise ConfigError("paper_protocol: is what the file's scale 'paper' says, not a key")
    missing = [
        entry.name
        for entry in dataclasses.fields(Study)
        if entry.name not in merged
        and entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}")
    for key in ("task", "rows", "columns", "training", "selection", "sweep"):
        if key in merged and not isinstance(merged[key], DictConfig):
            raise ConfigError(f"{key}: expected a mapping of names to values, got {merged[key]!r}")
    for key in OmegaConf.missing_keys(merged):
        raise ConfigError(f"{key}: '???' is no value")
    for name, title in merged.get("columns", {}).items():
        if not isinstance(title, str):
            raise ConfigError(f"columns.{name}: expected the column's title, got {title!r}")
    merged["scale"] = scale
    return _structured(Study, merged, "")  # type: ignore[no-any-return]


def _structured(cls: Any, values: Any, where: str) -> Any:
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


def _task(section: dict[str, Any]) -> dict[str, Any]:
    """The task's section, checked by the task's own settings, all defaults filled in."""
    values = dict(section)
    name = values.pop("name", None)
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError("task.name: say which task is trained, e.g. name: wide_resnet")
    settings = _structured(find_task(name).Settings, values, "task")
    filled: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return {"name": name, **filled}


def _paper_protocol(values: dict[str, Any]) -> dict[str, Any]:
    """What the file says the paper did, whatever scale and overrides are asked for; {} if nothing.

    A table prints the paper's numbers beside ours, and has to say under which protocol each is.
    """
    if "paper" not in values.get("scales", {}):
        return {}
    merged = _merge(values, "paper", ())
    if "task" not in merged:
        return {}
    parts = {"training": Training, "selection": Selection}
    built = {key: _structured(cls, merged.get(key, {}), key) for key, cls in parts.items()}
    task = OmegaConf.to_container(merged.task)
    assert isinstance(task, dict)
    return {
        "task": _task({str(key): value for key, value in task.items()}),
        **{key: dataclasses.asdict(value) for key, value in built.items()},
    }


def _chosen(study: Study, patterns: Iterable[str]) -> list[str]:
    wanted = list(patterns)
    if not wanted:
        return list(study.rows)
    kept: set[str] = set()
    for pattern in wanted:
        exact = {pattern} & study.rows.keys()
        found = exact or {n for n in study.rows if fnmatch.fnmatchcase(n, pattern)}
        if not found:
            raise ConfigError(unknown("row", pattern, study.rows))
        kept |= found
    return [name for name in study.rows if name in kept]


def _check_optimizers(study: Study) -> None:
    for name, row in study.rows.items():
        try:
            check_schedule(row.schedule or study.schedule, **_named(row.schedule_options))
            for point in points(study, row):
                values = {k: v for k, v in point.values if k not in ("lr", "weight_decay")}
                check_optimizer(row.optimizer, **_named({**row.options, **values}))
                _check_trial(study, row, point)
        except NosError as error:
            raise type(error)(f"rows.{name}: {error}") from None
        except OverflowError:
            raise ConfigError(f"rows.{name}: a number is too large") from None


def _named(options: dict[str, Any]) -> dict[str, Any]:
    """``options``, none of which is what the suite itself hands to an optimizer or a schedule."""
    for option, instead in OURS.items():
        if option in options:
            raise ConfigError(f"'{option}' is no option: {instead}")
    return options


def _check_trial(study: Study, row: Row, point: Point) -> None:
    trials = [sweep_trial(study, row, point), *repeat_trials(study, row, point)]
    for trial in (trials[0], trials[-1]):
        if not 0 <= trial.seed < 2**63:
            raise ConfigError(
                f"seed must be between 0 and 2^63, got {trial.seed} (selection.seed and the row's)"
            )
    try:
        json.dumps(trials[0].to_json(), allow_nan=False)
    except ValueError:
        raise ConfigError(f"{point}: a setting is infinite or NaN") from None
