"""What a table's file may say, and how it is read and checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.fit import SECTION
from nos_repro.experiments.layers import DEFAULT_SCALE, Values
from nos_repro.experiments.load import LAUNCHER, task_keys
from nos_repro.experiments.schema import check_name
from nos_repro.experiments.sections import NamedSection, merged_settings
from nos_repro.experiments.settings_file import check_shape, in_base, read_layers, structured
from nos_repro.rules.space import Space
from nos_repro.search.child import Child
from nos_repro.search.refusals import Refusals
from nos_repro.search.settings import checked_child, space_of

WHOLE_SCALE = "full"
PLAIN_SCALES = (WHOLE_SCALE, DEFAULT_SCALE)
"""Scales whose folder is the table's name; that of any other has the scale's name added."""


@dataclass(frozen=True)
class TablePart:
    """Seeds, and the rules that are trained with them."""

    seeds: list[int]
    """The seeds; each trains every rule of this part once."""
    best: int | None = None
    """Only this many rules with the best rewards of the task `by`, with its first seed (default:
    all rules, unless `random` is given)."""
    random: int | None = None
    """Only this many rules drawn at random; besides the best ones, if `best` is given too."""
    by: str | None = None
    """The task whose rewards say which rules are the best (default: this one)."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must be different whole numbers, got {self.seeds}")
        for seed in self.seeds:
            if not 0 <= seed < 2**31:
                raise ConfigError(f"a seed must be between 0 and 2^31, got {seed}")
        for key in ("best", "random"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"{key} must be at least 1, got {value}")

    @property
    def whole(self) -> bool:
        """Whether it has all rules."""
        return self.best is None and self.random is None


@dataclass(frozen=True)
class TableTask:
    """A task of a table: the child that every rule trains, and with which seeds."""

    child: Child
    """What a rule trains to get its reward; the same keys as in a search."""
    parts: list[TablePart] = field(default_factory=lambda: [TablePart([0])])
    """Which rules are trained with which seeds (default: all rules with seed 0)."""
    together: int = 1
    """Rules that one job trains, one after another: as many as take a few seconds."""

    def __post_init__(self) -> None:
        if self.together < 1:
            raise ConfigError(f"together must be at least 1, got {self.together}")
        if not self.parts:
            raise ConfigError("parts: say which rules are trained, e.g. parts: [{seeds: [0]}]")
        seeds = [seed for part in self.parts for seed in part.seeds]
        if len(set(seeds)) < len(seeds):
            raise ConfigError(f"parts: a seed belongs to one part only, got {seeds}")

    @property
    def seeds(self) -> list[int]:
        return [seed for part in self.parts for seed in part.seeds]


@dataclass(frozen=True)
class TableSettings:
    """A table of rules: a space, and the tasks that every distinct rule of it trains."""

    table: str
    """The name, and the folder of the table: `results/nosbench/NAME/`."""
    space: dict[str, Any]
    """The rules: the `name` of a space, whose keys you may replace, or all keys of your own."""
    tasks: dict[str, TableTask]
    """What is trained, by the name of a column of rewards."""
    about: str = ""
    """What the table is for, in a sentence or two; printed in its data card."""
    refuse: Refusals = field(default_factory=Refusals)
    """Which rules are not trained at all."""
    device: DeviceSettings = field(default_factory=DeviceSettings)
    """How children use the device that they train on; the same keys as in a study."""
    launcher: dict[str, Any] = field(default_factory=dict, metadata=SECTION)
    """Where the children run; the same keys as in a study."""
    scale: str = WHOLE_SCALE
    """Chosen with `--scale`, not in the file."""

    def __post_init__(self) -> None:
        check_name("table", self.table)
        if not self.tasks:
            raise ConfigError("tasks: a table needs at least one")
        for name, task in self.tasks.items():
            check_name(f"tasks.{name}: the name of a task", name)
            for part in task.parts:
                if part.by is not None and part.by not in self.tasks:
                    raise ConfigError(f"tasks.{name}.parts: {unknown('by', part.by, self.tasks)}")
                judge = self.judge(name, part)
                if not part.whole and not judge[0].whole:
                    raise ConfigError(
                        f"tasks.{name}.parts: the first part of {judge[1]} must have all rules,"
                        " for its rewards say which are the best"
                    )

    def judge(self, name: str, part: TablePart) -> tuple[TablePart, str]:
        """Where the rewards come from that choose the rules of a task's part: the first part of a
        task, and that task's name."""
        by = part.by or name
        return self.tasks[by].parts[0], by

    def make_space(self) -> Space:
        """The space. Raises ConfigError if it breaks a constraint."""
        return space_of(self.space)

    def folder(self, results: Path) -> Path:
        """Where the table is."""
        scale = "" if self.scale in PLAIN_SCALES else f"-{self.scale}"
        return results / "nosbench" / f"{self.table}{scale}"

    def identity(self) -> dict[str, Any]:
        """The settings that decide the table's numbers, as plain JSON values. A task is in it with
        its child: seeds and parts may grow."""
        space = dataclasses.asdict(self.make_space())
        del space["language"]  # a table is of the papers' language
        values = {
            "table": self.table,
            "scale": self.scale,
            "space": space,
            "refuse": dataclasses.asdict(self.refuse),
            "tasks": {name: dataclasses.asdict(task.child) for name, task in self.tasks.items()},
        }
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


def load_table_settings(
    path: Path, *, scale: str = WHOLE_SCALE, overrides: Sequence[str] = ()
) -> TableSettings:
    """Reads, merges and checks a table's file; ``overrides`` are `key.path=value` words.

    Raises ConfigError naming file, key and choice.
    """
    try:
        return _load(path, scale, overrides)
    except NosError as error:
        said = in_base(path, error, lambda base: load_table_settings(base, scale=scale))
        raise type(error)(f"{path} (scale {scale}): {said}") from None


def _load(path: Path, scale: str, overrides: Sequence[str]) -> TableSettings:
    files = read_layers(path)
    for key, verb in (("study", "run"), ("search", "search")):
        if key in files[-1]:
            raise ConfigError(f"a {key}, not a table: use `{verb}`")
    merged = merged_settings(files, scale, overrides, [*_task_sections(files), LAUNCHER])
    if "scale" in merged:
        raise ConfigError("scale: choose it with --scale, not in the file")
    check_shape(TableSettings, merged, ("space", "tasks", "refuse", "device", "launcher"))
    merged["scale"] = scale
    settings: TableSettings = structured(TableSettings, merged, "")
    tasks = {name: _checked(name, task) for name, task in settings.tasks.items()}
    settings = dataclasses.replace(settings, tasks=tasks)
    settings.make_space()
    return settings


def _checked(name: str, task: TableTask) -> TableTask:
    where = f"tasks.{name}.child"
    try:
        return dataclasses.replace(task, child=checked_child(task.child, where))
    except NosError as error:
        said = str(error)
        raise type(error)(said if said.startswith(where) else f"{where}.{said}") from None


def _task_sections(files: Sequence[Values]) -> list[NamedSection]:
    """The sections of the children's tasks, whose keys depend on the task's name."""
    names: dict[str, None] = {}
    for file in files:
        scales = file.get("scales")
        for values in (file, *(scales.values() if isinstance(scales, dict) else ())):
            tasks = values.get("tasks") if isinstance(values, dict) else None
            names |= dict.fromkeys(tasks if isinstance(tasks, dict) else ())
    return [
        NamedSection(f"tasks.{name}.child.task", task_keys, beside=f"tasks.{name}.child.sweep")
        for name in names
    ]
