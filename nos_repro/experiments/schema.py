"""What a study file may contain: frozen dataclasses whose keys and types OmegaConf checks."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

from nos_repro.errors import ConfigError, unknown
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.fit import SECTION, shown
from nos_repro.experiments.growing import Growth, growth_of
from nos_repro.experiments.trial import Training
from nos_repro.rules.tree import LANGUAGES

LONGEST_NAME = 100
SELECTABLE = ("best_val", "final_val")


@dataclass(frozen=True)
class Selection:
    """How a row gets its number: sweep, choose on a validation column, repeat over fresh seeds."""

    by: str = "best_val"
    """The column that chooses: `best_val` or `final_val`."""
    sweep_epochs: int | None = None
    """The length of the sweep's trials, if shorter than the training."""
    repeats: int = 0
    """Fresh seeds for the chosen point. 0: the sweep's best trial gives the number (002 Table
    6)."""
    seed: int = 0
    """Seeds count from this one."""

    def __post_init__(self) -> None:
        if self.by not in SELECTABLE:
            raise ConfigError(unknown("selection.by", self.by, SELECTABLE))
        if self.repeats < 0:
            raise ConfigError(f"selection.repeats must not be negative, got {self.repeats}")
        if self.sweep_epochs is not None and self.sweep_epochs < 1:
            raise ConfigError(f"selection.sweep_epochs must be at least 1, got {self.sweep_epochs}")
        if self.sweep_epochs is not None and self.repeats == 0:
            raise ConfigError(
                "selection.sweep_epochs shortens the sweep, so selection.repeats must be at least 1"
            )


@dataclass(frozen=True)
class Halving:
    """Rows that show less promise are stopped early (002 sec. 5.1): synchronous successive halving.

    At each rung the rows that are still in are ranked by their best point so far; of n rows the
    best ceil(keep * n) go on, each with only that point.
    The paper does not print its "simple heuristics": this one is ours.
    """

    rungs: list[int] = field(default_factory=list)
    """The epochs after which rows are stopped, such as [10, 30, 100]."""
    keep: float = 0.5
    """The share of the rows that continues after each rung; above 0, at most 1."""
    by: str = "best_val"
    """The column that ranks the rows, by the best point of each; the same as `selection.by`."""

    def __post_init__(self) -> None:
        if self.by not in SELECTABLE:
            raise ConfigError(unknown("halving.by", self.by, SELECTABLE))
        if not 0 < self.keep <= 1:
            raise ConfigError(
                "halving.keep is the share of the rows that go on: above 0 and at most 1,"
                f" got {self.keep}"
            )
        if not self.rungs:
            raise ConfigError("halving.rungs: give the epochs to halve at, e.g. [10, 30, 100]")
        if self.rungs[0] < 1 or sorted(set(self.rungs)) != self.rungs:
            raise ConfigError(f"halving.rungs must be increasing epochs, got {self.rungs}")


@dataclass(frozen=True)
class Row:
    """A row of the table: an optimizer, its schedule, its grid, the paper's cells."""

    optimizer: str = ""
    """A name (`adam`, `powersign-cd`), a rule (`"rule: g * exp(m)"`), any class or module
    (`torch.optim.AdamW`), or several: `{split: {matrices: torch.optim.Muon, rest: adam}}`."""
    schedule: str | None = None
    """The learning-rate schedule, if it differs from the study's."""
    sweep: dict[str, Any] = field(default_factory=dict)
    """`lr`, `weight_decay` or options of the optimizer, each with the list of values to try; laid
    over the study's `sweep`. Rates can grow instead (`growing.Growth`): `lr: {around: 0.1}`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fixed options of the optimizer. Short form: `optimizer: {name: adam, eps: 1e-3}`. Every
    optimizer has `groups`: `{no_decay: [norms, biases], rates: {heads: 0.1}}`."""
    schedule_options: dict[str, Any] = field(default_factory=dict)
    """Fixed options of the schedule. Short form: `schedule: {name: cosine, alpha: 0.1}`."""
    seed: int = 0
    """Added to the seeds, so that the row draws other random numbers."""
    paper: dict[str, float] = field(default_factory=dict)
    """The paper's value for each column, which the cell is compared with."""
    note: str = ""
    """A remark, printed below the table."""


def check_name(key: str, name: str) -> None:
    """Raises ConfigError for what cannot be the name of a study or search, and so of its folder."""
    if not name.replace("_", "").replace("-", "").isalnum() or len(name.encode()) > LONGEST_NAME:
        raise ConfigError(
            f"{key} must be a plain word usable as a folder, of at most {LONGEST_NAME} bytes,"
            f" got {shown(name)}"
        )


def check_language(language: int) -> None:
    """Raises ConfigError for an edition that there is not."""
    if language not in LANGUAGES:
        raise ConfigError(f"language must be 1 (the papers') or 2, got {language}")


def title(name: str, source: str, scale: str) -> str:
    return f"{name} ({source}), scale {scale}" if source else f"{name}, scale {scale}"


@dataclass(frozen=True)
class Study:
    """An experiment: rows that share a task, a training length and a protocol."""

    study: str
    """The name, and the folder of the records: `results/NAME/`."""
    task: dict[str, Any] = field(metadata=SECTION)
    """What is trained: a task's `name` and its settings (see the page on tasks)."""
    rows: dict[str, Row]
    """The table's rows, by name."""
    source: str = ""
    """The place in a paper that the study repeats, such as `002 Table 2`. Only such a study is
    compared with a paper."""
    claim: str = ""
    """What the table is to show, in one sentence."""
    columns: dict[str, str] = field(default_factory=dict)
    """The table's columns with their titles (default: the task's metric on validation and test
    data). A column is `best_val`, `final_test`, `final_test_bleu` and the like."""
    training: Training = field(default_factory=Training)
    """How long a trial trains."""
    schedule: str = "constant"
    """The learning-rate schedule of every row that names none."""
    language: int = 1
    """The edition of the language that the rows' rules are written in: 1, the papers', or 2."""
    sweep: dict[str, Any] = field(default_factory=dict)
    """What every row is tuned over: `lr`, `weight_decay` or options of the optimizer, each with a
    list of values, or rates that grow."""
    selection: Selection = field(default_factory=Selection)
    """How a row gets its number from its trials."""
    halving: Halving | None = None
    """Stops weak rows early; leave it out to train every row to its end."""
    figure: dict[str, Any] | None = field(default=None, metadata=SECTION)
    """What is drawn beside the table: the figure's kind and its settings (`report.figures`)."""
    device: DeviceSettings = field(default_factory=DeviceSettings)
    """How trials use the device that they run on; each record says what was in effect."""
    launcher: dict[str, Any] = field(default_factory=dict, metadata=SECTION)
    """Where trials run and what each is given (`launch.settings`); no number depends on it."""
    note: str = ""
    """A remark, printed below the table."""
    scale: str = "paper"
    """Chosen with `--scale`, not in the file."""
    paper_protocol: dict[str, Any] = field(default_factory=dict)
    """`task`, `training`, `selection` (and `halving`) of the scale `paper`, for its label, and its
    `rows` (`grid.row_settings`): a number is the paper's only if all of these are."""

    def __post_init__(self) -> None:
        check_name("study", self.study)
        check_language(self.language)
        if not self.rows:
            raise ConfigError("rows: a study needs at least one row")
        for name, row in self.rows.items():
            if not row.optimizer:
                raise ConfigError(f"rows.{name}: no optimizer; give one, e.g. optimizer: adam")
            self._check_sweep(name, {**self.sweep, **row.sweep})
        if self.halving is not None:
            self._check_halving(self.halving)

    @property
    def title(self) -> str:
        """`table2 (002 Table 2), scale small`."""
        return title(self.study, self.source, self.scale)

    @functools.cached_property
    def growths(self) -> dict[str, Growth]:
        """The rows whose rates grow, and how."""
        found = {name: growth_of({**self.sweep, **row.sweep}) for name, row in self.rows.items()}
        return {name: growth for name, growth in found.items() if growth is not None}

    def _check_halving(self, halving: Halving) -> None:
        epochs, every = self.training.epochs, self.training.evaluate_every
        if halving.rungs[-1] >= epochs:
            raise ConfigError(
                f"halving.rungs must lie below training.epochs ({epochs}), got {halving.rungs}"
            )
        for rung in halving.rungs:
            if rung % every:
                raise ConfigError(
                    f"halving.rungs: nothing is measured at epoch {rung}; take multiples of"
                    f" training.evaluate_every ({every})"
                )
        if self.selection.repeats:
            raise ConfigError(
                "halving compares the sweep's own trials, so selection.repeats must be 0,"
                f" got {self.selection.repeats}"
            )
        if self.growths:
            raise ConfigError(
                f"halving ranks all points of a row together, so rows.{next(iter(self.growths))}"
                " needs a list of rates, not rates that grow"
            )
        if self.selection.by != halving.by:
            raise ConfigError(
                "halving.by chooses the point of a row too, so selection.by must be the same,"
                f" got {halving.by} and {self.selection.by}"
            )

    def _check_sweep(self, row: str, sweep: dict[str, Any]) -> None:
        if "lr" not in sweep:
            raise ConfigError(f"rows.{row}: no learning rate; give sweep.lr a list of at least one")
        growth_of(sweep, f"rows.{row}.sweep")
        lists = {key: values for key, values in sweep.items() if not isinstance(values, dict)}
        for key in sweep.keys() - lists.keys() - {"lr"}:
            raise ConfigError(f"rows.{row}.sweep.{key}: only lr can grow; give a list of values")
        for key, values in lists.items():
            if not isinstance(values, list):
                raise ConfigError(
                    f"rows.{row}.sweep.{key}: expected a list, e.g. [0.1, 1.0], got {shown(values)}"
                )
            if not values:
                raise ConfigError(f"rows.{row}.sweep.{key} is empty; give at least one value")
            if len(set(map(repr, values))) != len(values):
                raise ConfigError(f"rows.{row}.sweep.{key} lists a value twice: {values}")
        for key, positive in (("lr", True), ("weight_decay", False)):
            for value in lists.get(key, ()):
                _check_rate(f"rows.{row}.sweep.{key}", value, positive=positive)


def _check_rate(where: str, value: object, *, positive: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        wanted = "a positive" if positive else "a non-negative"
        raise ConfigError(f"{where} must be {wanted} finite number, got {value}")
