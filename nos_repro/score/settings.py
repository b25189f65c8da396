"""What a scoring file may say, and how it is read and checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.fit import SECTION
from nos_repro.experiments.layers import lay_files, scale_in_effect
from nos_repro.experiments.load import task_section
from nos_repro.experiments.schema import check_name
from nos_repro.experiments.sections import merged_settings
from nos_repro.experiments.settings_file import check_shape, read_layers, shipped, structured
from nos_repro.score.process import ProcessLimits

FOLDER = "score"
"""The folder of the configs that declare how candidates are scored."""
DEFAULT = "optimizers"
STAGES = (1, 2, 3)
HELD_OUT = 3


@dataclass(frozen=True)
class ScoreTask:
    """A task that candidates train."""

    task: dict[str, Any] = field(metadata=SECTION)
    """What is trained: a task's `name` and its settings, as in a study."""
    stage: int = 1
    """1 or 2: its speed-up counts; 3: it is held out, and reported apart."""
    epochs: int = 1
    """Epochs of each training."""
    evaluate_every: int = 10
    """Updates between two evaluations, each a point of the curve."""
    validation_batches: int | None = None
    """Only the first batches of the validation part are evaluated (default: all of them)."""
    gradient_norm: float | None = None
    """Gradients are clipped to this norm before the candidate sees them; none by default."""
    needs: list[str] = field(default_factory=list)
    """Names in the folder of data sets, one of which must be there; else `stand_in` is trained."""
    stand_in: dict[str, Any] = field(default_factory=dict, metadata=SECTION)
    """Settings of the task that differ where the data is not there, such as an embedded set."""

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ConfigError(f"stage must be one of {STAGES}, got {self.stage}")
        for key in ("epochs", "evaluate_every"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.validation_batches is not None and self.validation_batches < 1:
            raise ConfigError(
                f"validation_batches must be at least 1, got {self.validation_batches}"
            )
        if self.gradient_norm is not None and not self.gradient_norm > 0:
            raise ConfigError(f"gradient_norm must be positive, got {self.gradient_norm}")
        if self.needs and not self.stand_in:
            raise ConfigError("needs: say with stand_in what is trained where the data is missing")

    @property
    def held_out(self) -> bool:
        return self.stage == HELD_OUT


@dataclass(frozen=True)
class ScoreSettings:
    """How a candidate is scored."""

    score: str
    """The name of this way to score."""
    tasks: dict[str, ScoreTask]
    """What is trained, by name."""
    about: str = ""
    """What it is for, in a sentence or two."""
    rates: list[float] = field(default_factory=lambda: [10.0**i for i in range(-4, 2)])
    """The learning rates that every optimizer is tuned over, the baselines too."""
    refine: float = math.sqrt(10)
    """Two more rates are tried, the best one times and divided by this; 1: none."""
    seeds: int = 2
    """Trainings at the best rate, with fresh seeds; their mean counts."""
    bars: list[float] = field(default_factory=lambda: [0.5, 0.7])
    """A candidate goes on after stage 1, and 2, if its speed-up there is at least this."""
    unreached: float = 0.1
    """The speed-up that counts for a task which the candidate did not get to."""
    call_seconds: float = 20.0
    """The most time for one call: for being imported, or for one update."""
    seed: int = 0
    """Seeds count from this one."""
    scale: str = "full"
    """Chosen with `--scale`, not in the file."""

    def __post_init__(self) -> None:
        check_name("score", self.score)
        if not self.tasks:
            raise ConfigError("tasks: give at least one")
        if not self.rates or len(set(self.rates)) < len(self.rates):
            raise ConfigError(f"rates must be different numbers, got {self.rates}")
        for rate in self.rates:
            if not (math.isfinite(rate) and rate > 0):
                raise ConfigError(f"rates must be positive finite numbers, got {rate}")
        if not self.refine >= 1:
            raise ConfigError(f"refine must be at least 1, got {self.refine}")
        if self.seeds < 1:
            raise ConfigError(f"seeds must be at least 1, got {self.seeds}")
        if len(self.bars) != HELD_OUT - 1 or min(self.bars) < 0:
            raise ConfigError(f"bars must be two numbers, for stages 1 and 2, got {self.bars}")
        if not 0 < self.unreached <= 1:
            raise ConfigError(f"unreached must be in (0, 1], got {self.unreached}")
        if not self.call_seconds > 0:
            raise ConfigError(f"call_seconds must be positive, got {self.call_seconds}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must be between 0 and 2^31, got {self.seed}")

    @property
    def trainings(self) -> int:
        """How many trainings of each task an optimizer gets at most."""
        return len(self.rates) + 2 * (self.refine > 1) + self.seeds

    def of_stage(self, stage: int) -> dict[str, ScoreTask]:
        return {name: task for name, task in self.tasks.items() if task.stage == stage}

    def with_tasks(self, names: Sequence[str]) -> ScoreSettings:
        """These tasks alone. Raises ConfigError for an unknown name."""
        for name in names:
            if name not in self.tasks:
                raise ConfigError(f"--tasks: {unknown('task', name, self.tasks)}")
        chosen = {name: task for name, task in self.tasks.items() if name in names}
        return dataclasses.replace(self, tasks=chosen or self.tasks)


def limits_of(seconds: float, memory: int, settings: ScoreSettings) -> ProcessLimits:
    """Raises ConfigError for impossible values."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"--time-limit must be positive seconds, got {seconds}")
    return ProcessLimits(seconds, settings.call_seconds, memory)


def find_scoring(given: str) -> Path:
    """The file that ``given`` names: a path, or the name of one that ships."""
    path = Path(given)
    if path.is_file():
        return path
    known = shipped(FOLDER)
    if path.stem in known and path.parent in (Path(), Path("score"), Path("configs/score")):
        return known[path.stem]
    raise ConfigError(f"{given}: no such file; {unknown('way to score', path.stem, known)}")


def load_scoring(
    path: Path, *, scale: str | None = None, overrides: Sequence[str] = ()
) -> ScoreSettings:
    """Reads and checks a scoring file, at its first scale if none is asked for. Raises ConfigError,
    which names file, key and choice."""
    try:
        files = read_layers(path)
        scale = scale or scale_in_effect(lay_files(files))
        if "score" not in files[-1]:
            raise ConfigError("it has no key `score`, the name of a way to score candidates")
        merged = merged_settings(files, scale, overrides)
        if "scale" in merged:
            raise ConfigError("scale: choose it with --scale, not in the file")
        check_shape(ScoreSettings, merged, ("tasks",))
        settings: ScoreSettings = structured(ScoreSettings, {**merged, "scale": scale}, "")
        for name, task in settings.tasks.items():
            for section in ({}, task.stand_in):
                _check_section(f"tasks.{name}.task", {**task.task, **section})
    except NosError as error:
        where = f"{path} (scale {scale})" if scale else str(path)
        raise type(error)(f"{where}: {error}") from None
    return settings


def _check_section(where: str, section: dict[str, Any]) -> None:
    try:
        task_section(section)
    except NosError as error:
        raise type(error)(f"{where}: {error}") from None
