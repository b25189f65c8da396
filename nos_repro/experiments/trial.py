"""A trial: one training run, identified by the hash of the settings that decide its numbers."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nos_repro.errors import ConfigError
from nos_repro.experiments.environment import Environment
from nos_repro.tasks.registry import describe


@dataclass(frozen=True)
class Training:
    """How long a trial trains and how often it is evaluated."""

    epochs: int = 1
    """Epochs per trial."""
    evaluate_every: int = 1
    """Epochs between evaluations, each a point of the curve."""
    gradient_norm: float | None = None
    """Gradients are clipped to this norm; none by default."""
    environment: Environment | None = None
    """What becomes of the gradients before the optimizer sees them, such as `{bits: 4}`; nothing
    by default."""

    def __post_init__(self) -> None:
        for key in ("epochs", "evaluate_every"):
            if getattr(self, key) < 1:
                raise ConfigError(f"training.{key} must be at least 1, got {getattr(self, key)}")
        if self.gradient_norm is not None and not self.gradient_norm > 0:
            raise ConfigError(f"training.gradient_norm must be positive, got {self.gradient_norm}")


@dataclass(frozen=True)
class Trial:
    """Everything that decides a trial's numbers, and nothing else.

    Neither the study's nor the row's name is in it: two rows that ask for exactly the same training
    share one trial.
    """

    task: str
    task_settings: dict[str, Any]
    optimizer: str
    lr: float
    weight_decay: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The settings as they come back from a JSON file."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        plain: dict[str, Any] = _plain(values)
        return plain

    def at(self, **changes: Any) -> Trial:
        """The same training with other values, but of the same task; what they share is digested
        once."""
        other = Trial(**{name: getattr(self, name) for name in self._parts} | changes)
        own = {name: _Part.of(name, value, self.task) for name, value in changes.items()}
        vars(other)["_parts"] = {**self._parts, **own}
        return other

    @functools.cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits of the settings' SHA-256.

        Settings at their default are left out, so that an option added later keeps the identity of
        the trials that never used it. `same_settings` guards the other side: a default that
        *changed* makes the stored settings differ.
        """
        texts = [part.text for part in self._parts.values() if part.text]
        return hashlib.sha256(f"{{{','.join(sorted(texts))}}}".encode()).hexdigest()[:12]

    def same_settings(self, stored: dict[str, Any]) -> bool:
        """Whether a record's ``stored`` settings, with the current defaults, are this trial's."""
        own = {name: part.plain for name, part in self._parts.items()}
        if stored == own:
            return True
        filled = {**_defaults(Trial), **stored}
        for section in SECTIONS:
            below = _defaults_of(section, self.task)
            filled[section] = {**below, **stored.get(section, {})}
        return filled == own

    @functools.cached_property
    def _parts(self) -> dict[str, _Part]:
        names = [entry.name for entry in dataclasses.fields(self)]
        return {name: _Part.of(name, getattr(self, name), self.task) for name in names}

    def label(self) -> str:
        """The trial in a few words, for progress and logs."""
        parts = [self.optimizer, *_part_names(self.options), f"lr={self.lr:g}"]
        if self.weight_decay:
            parts.append(f"weight_decay={self.weight_decay:g}")
        parts += [f"{key}={value}" for key, value in self.options.items() if key != "split"]
        if self.schedule != "constant":
            parts.append(self.schedule)
        return " ".join([*parts, f"seed={self.seed}"])


class _Part(NamedTuple):
    """A field of a trial as it comes back from a JSON file, and what it adds to the text that
    identifies the trial; "" for a default."""

    plain: Any
    text: str

    @classmethod
    def of(cls, name: str, value: Any, task: str) -> _Part:
        plain = value if type(value) in SCALARS else _plain(value)
        given = _without(plain, _defaults_of(name, task)) if name in SECTIONS else plain
        at_default = given == {} or _defaults(Trial).get(name, MISSING) == given
        return cls(plain, "" if at_default else f'"{name}":{_canonical(given)}')


def _part_names(options: dict[str, Any]) -> list[str]:
    """`matrices:torch.optim.Muon`, for each optimizer of a split."""
    parts = options.get("split")
    named = parts.items() if isinstance(parts, dict) else ()
    return [f"{key}:{part['name'] if isinstance(part, dict) else part}" for key, part in named]


SCALARS = (str, int, float)
SECTIONS = ("task_settings", "training")
MISSING = object()
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _canonical(value: Any) -> str:
    """The JSON of a value, the same for the same values; a plain number's takes longest to ask
    the encoder for."""
    return repr(value) if type(value) is float and math.isfinite(value) else ENCODER.encode(value)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=dataclasses.asdict)) if value != {} else {}


def _defaults_of(section: str, task: str) -> dict[str, Any]:
    settings: Any = Training if section == "training" else describe(task).Settings
    return _defaults(settings)


def make_settings(task: str, values: dict[str, Any]) -> Any:
    """The task's own settings from what a study or a record says: JSON has no tuples."""
    exact = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return describe(task).Settings(**exact)


@functools.cache
def _defaults(cls: type) -> dict[str, Any]:
    """The JSON form of a dataclass's defaults."""
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(cls):
        if entry.default is not dataclasses.MISSING:
            values[entry.name] = entry.default
        elif entry.default_factory is not dataclasses.MISSING:
            values[entry.name] = entry.default_factory()
    plain: dict[str, Any] = json.loads(json.dumps(values, default=dataclasses.asdict))
    return plain


def _without(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """``values`` without the entries at their default, and without nested empty ones."""
    return {k: v for k, v in values.items() if v != {} and (k not in defaults or defaults[k] != v)}
