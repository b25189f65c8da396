"""The facts about a task: all that a table, a report or a check of settings asks about it."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from nos_repro.errors import ConfigError
from nos_repro.tasks.metrics import Metric

SPEED = {"changes": "speed"}
"""Metadata of a setting that changes the speed alone, apart from rounding:
`channels_last: bool = field(default=False, metadata=SPEED)`. No comparison depends on it."""
PRECISION = {"changes": "precision"}
"""Metadata of a setting that is the precision of the arithmetic. Numbers made with another one are
compared, and it is said beside them."""


def settings_that_change(what: Mapping[str, str], settings: type[Any]) -> list[str]:
    """The names of a task's settings that are declared so, with SPEED or PRECISION."""
    fields = dataclasses.fields(settings)
    return [entry.name for entry in fields if entry.metadata.get("changes") == what["changes"]]


def require(holds: bool, key: str, rule: str, given: object) -> None:
    """Raises ConfigError `task.KEY must be RULE, got GIVEN` unless the condition holds."""
    if not holds:
        raise ConfigError(f"task.{key} must be {rule}, got {given}")


class TaskFacts:
    """What is known about a task without its model and its data, so without torch.

    `Settings` is the frozen dataclass of the task's YAML section (OmegaConf's structured form);
    impossible values raise ConfigError in its `__post_init__`. `measures` are the metrics that the
    task's `metrics` returns: the first one decides (a row's learning rate, a search's reward), and
    a study's columns may name any. Other values that `metrics` returns are recorded and can be
    drawn. `label` is the model's name in tables, with its settings in braces:
    `WRN-{depth}-{width}`; "" means the task's name.
    """

    Settings: ClassVar[type[Any]]
    measures: ClassVar[tuple[Metric, ...]]
    label: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def chance(cls, settings: Any) -> float:
        """The value of the metric that decides, for a model that has learned nothing."""

    @classmethod
    def remark(cls) -> str:
        """What a table says about how the metrics are measured; "" for nothing."""
        return ""

    @classmethod
    def code(cls, settings: Any) -> tuple[str, ...]:
        """What decides a trial's numbers besides the task and the engine, as `module:definition`:
        whatever the settings name, such as a data set (`Registry.origins`)."""
        return ()
