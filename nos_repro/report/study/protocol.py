"""A scale's protocol in words: what was trained, on what, for how long, and how it was chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from string import Formatter
from typing import Any

from nos_repro.experiments.grid import row_settings
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.tasks.facts.base import PRECISION, SPEED, settings_that_change
from nos_repro.tasks.registry import describe

Settings = dict[str, Any]

# fmt: off
WORDS: dict[str, Callable[[Any], str]] = {
    "data":              lambda value: f"on {value}",
    "classes":           lambda value: f"{value:,} classes",
    "size":              lambda value: f"{value} pixels a side",
    "train_images":      lambda value: f"{value:,} training images" if value else "",
    "validation_images": lambda value: f"{value:,} for validation" if value else "",
    "batch_size":        lambda value: f"batch {value}",
    "augment":           lambda value: "augmented" if value else "not augmented",
    "precision":         lambda value: "float32" if value == "32" else str(value),
    "steps_per_epoch":   lambda value: f"{value} steps per epoch",
}
# fmt: on


@dataclass(frozen=True)
class Precision:
    """What the runs of a number computed in: ``ours``, and ``paper``'s in the scale of that name,
    `float32`; "" for a task that knows one only. ``tf32``: our runs with products in TF32
    (`device.tf32`)."""

    ours: str
    paper: str
    tf32: int


def settings_of(study: Study) -> Settings:
    """The study's own protocol, in the form of `Study.paper_protocol`."""
    training, selection = asdict(study.training), asdict(study.selection)
    halving = {} if study.halving is None else {"halving": asdict(study.halving)}
    rows = {name: row_settings(row, study) for name, row in study.rows.items()}
    own = {"task": dict(study.task), "training": training, "selection": selection, **halving}
    return {**own, "rows": rows}


def is_the_papers(study: Study) -> bool:
    """Whether the study runs what its file says the paper ran: overrides count, names do not, nor
    do rows that the paper's table does not have."""
    if not study.source:
        return False
    if not study.paper_protocol:
        return study.scale == "paper"
    added = {f"rows.{name}" for name in study.rows.keys() - study.paper_protocol["rows"].keys()}
    return not set(differences(study)) - added


def differences(study: Study) -> list[str]:
    """The settings that are not as in the file's scale `paper`, by their paths. Not counted are a
    row that only the paper's scale has, settings that change the speed alone, and the precision,
    which is said beside a number (`precision_words`)."""
    own, paper = settings_of(study), dict(study.paper_protocol)
    if not paper:
        return []
    paper["rows"] = {name: row for name, row in paper["rows"].items() if name in own["rows"]}
    settings = describe(study.task["name"]).Settings
    kinds = [settings_that_change(kind, settings) for kind in (SPEED, PRECISION)]
    equal = {f"task.{name}" for names in kinds for name in names}
    return [path for path in _differences(own, paper, "") if path not in equal]


def precision_settings(study: Study) -> tuple[Settings, Settings]:
    """The settings of the study's task that are its precision, and the scale paper's where they are
    not the same."""
    names = settings_that_change(PRECISION, describe(study.task["name"]).Settings)
    own, paper = study.task, study.paper_protocol.get("task", study.task)
    changed = [name for name in names if name in paper and own.get(name) != paper[name]]
    return {name: own.get(name) for name in changed}, {name: paper[name] for name in changed}


def precision(study: Study, records: Sequence[Record]) -> Precision:
    """The precision of both sides of a verdict on a number of these records."""
    names = settings_that_change(PRECISION, describe(study.task["name"]).Settings)
    ours, paper = (
        in_words({name: task[name] for name in names if name in task})
        for task in (study.task, study.paper_protocol.get("task", study.task))
    )
    return Precision(ours, paper, _with_tf32(records))


def precision_words(study: Study, records: Sequence[Record]) -> str:
    """`in bf16, the paper's scale in float32; 2 of 5 runs with TF32`; "" where nothing differs."""
    own, paper = precision_settings(study)
    parts = []
    if own:
        parts.append(f"in {in_words(own)}, the paper's scale in {in_words(paper)}")
    if words := tf32_words(records):
        parts.append(words)
    return "; ".join(parts)


def tf32_words(records: Sequence[Record]) -> str:
    """`2 of 5 runs with products in TF32`; "" if no run has them (`device.tf32`)."""
    count = _with_tf32(records)
    return f"{count} of {len(records)} runs with products in TF32" if count else ""


def _with_tf32(records: Sequence[Record]) -> int:
    known = [record.provenance.get("device_settings", {}) for record in records]
    return sum(bool(settings.get("tf32")) for settings in known)


def in_words(precision: Settings) -> str:
    """`bf16`: settings that are a precision."""
    words = (WORDS[key](value) if key in WORDS else f"{key}={value}"
             for key, value in precision.items())  # fmt: skip
    return ", ".join(words)


def _differences(own: Any, paper: Any, where: str) -> Iterator[str]:
    if isinstance(own, dict) and isinstance(paper, dict) and not where.endswith(".sweep"):
        for key in sorted({*own, *paper}):
            yield from _differences(own.get(key), paper.get(key), f"{where}.{key}".lstrip("."))
    elif own != paper:
        yield where


def model(protocol: Settings) -> str:
    """`WRN-40-4`: the task's label with its settings."""
    task: Settings = protocol["task"]
    return _label(task).format(**task)


def _label(task: Settings) -> str:
    return describe(task["name"]).label or str(task["name"])


def epochs(protocol: Settings) -> str:
    count = protocol["training"]["epochs"]
    return f"{count} epoch{'s' if count > 1 else ''}"


def short(protocol: Settings) -> str:
    """`WRN-40-4, 300 epochs`: enough to tell two scales apart in a column's heading."""
    return f"{model(protocol)}, {epochs(protocol)}"


def long(protocol: Settings, other: Settings | None = None) -> str:
    """The whole protocol. Settings without words of their own are shown where ``other`` differs."""
    task = dict(protocol["task"])
    against = (other or {}).get("task", {})
    speed = settings_that_change(SPEED, describe(task["name"]).Settings)
    in_model = ["name", *speed, *(key for _, key, _, _ in Formatter().parse(_label(task)) if key)]
    parts = []
    for key in sorted(task, key=lambda key: key not in WORDS):
        if key in in_model:
            continue
        if key in WORDS:
            parts.append(WORDS[key](task[key]))
        elif against.get(key, task[key]) != task[key]:
            parts.append(f"{key}={task[key]}")
    return ", ".join([model(protocol), *filter(None, parts), epochs(protocol)])


def selection_words(protocol: Settings, of_paper: bool = True) -> str:
    """How a row's point was chosen and over what its cells are taken; ``of_paper``: in a study that
    repeats a paper."""
    if "halving" in protocol:
        return _halving_words(protocol["halving"], of_paper)
    chosen = protocol["selection"]
    by = chosen["by"].replace("_", " ").replace("val", "validation value")
    length = chosen["sweep_epochs"]
    after = f" after {length} epochs" if length else ""
    repeats = chosen["repeats"]
    runs = f"runs with {repeats} fresh seeds" if repeats > 1 else "a run with a fresh seed"
    return f"point chosen by {by}{after}; its cells are from {runs if repeats else 'that same run'}"


def _halving_words(halving: Settings, of_paper: bool) -> str:
    whose = " (our heuristic, the paper prints none)" if of_paper else ""
    by = halving["by"].replace("_", " ").replace("val", "validation value")
    epochs = ", ".join(map(str, halving["rungs"]))
    return (
        f"point chosen by {by} at epoch {halving['rungs'][0]}; of the rows still in, the best"
        f" {halving['keep']:.0%} by {by} so far go on after each of the epochs {epochs}, the others"
        f" are stopped{whose}; its cells are from that same run"
    )
