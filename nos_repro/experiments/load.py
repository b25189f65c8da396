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
from nos_repro.experiments.grid import points
from nos_repro.experiments.schema import SCALES, Selection, Study
from nos_repro.experiments.trial import Training
from nos_repro.optim.factory import check_optimizer, check_schedule
from nos_repro.tasks import find_task


def find_config(given: str) -> Path:
    """The study file ``given`` names: a path, or the name of one that ships with the package."""
    path = Path(given)
    if path.is_file():
        return path
    package = Path(str(resources.files("nos_repro")))
    folders = [package / "configs", package.parent / "configs"]
    for folder in folders:
        shipped = folder / path.with_suffix(".yaml").name
        if shipped.is_file() and path.parent in (Path(), Path("configs")):
            return shipped
    names = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise ConfigError(f"{given}: no such file; " + unknown("study", path.stem, names))


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
    merged = _merge_dicts(base, scales[scale] or {}, f"scales.{scale}")
    for word in overrides:
        merged = _merge_dicts(merged, _override(word), word)
    return OmegaConf.create(merged)


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
    merged["scale"] = scale
    return _structured(Study, merged, "")  # type: ignore[no-any-return]


def _structured(cls: Any, values: Any, where: str) -> Any:
    """``values`` as a ``cls``, by OmegaConf's structured configs, errors in our words."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), values))
    except OmegaConfBaseException as error:
        key = ".".join(part for part in (where, str(getattr(error, "full_key", "") or "")) if part)
        first = str(error.msg or error).splitlines()[0]
        if type(error).__name__ == "ConfigKeyError":
            owner = error.object_type if dataclasses.is_dataclass(error.object_type) else cls
            choice = [entry.name for entry in dataclasses.fields(owner)]
            wrong = unknown("key", key.rpartition(".")[2], choice)
            raise ConfigError(f"{key}: {wrong}") from None
        raise ConfigError(f"{key}: {first}") from None


def _task(section: dict[str, Any]) -> dict[str, Any]:
    """The task's section, checked by the task's own settings, all defaults filled in."""
    values = dict(section)
    name = values.pop("name", None)
    if not isinstance(name, str):
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
            check_schedule(row.schedule or study.schedule, **row.schedule_options)
            for point in points(study, row):
                values = {k: v for k, v in point.values if k not in ("lr", "weight_decay")}
                check_optimizer(row.optimizer, **{**row.options, **values})
        except NosError as error:
            raise type(error)(f"rows.{name}: {error}") from None
