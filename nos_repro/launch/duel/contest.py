"""Who duels: two rows of a study, or optimizers put into a row's place, tuned alike."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.columns import STATE, check_columns, metric_of
from nos_repro.experiments.grid import points, possible_points, row_settings
from nos_repro.experiments.load import load_study
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Row, Study
from nos_repro.experiments.selection import Outcome
from nos_repro.launch.duel.judgement import Names, Pair
from nos_repro.launch.duel.sequence import MOST_PAIRS, fewest_pairs
from nos_repro.optim.lookup import find_optimizer, in_language
from nos_repro.tasks.metrics import Metric

TUNED = ("lr", "weight_decay")
"""What an optimizer in a row's place is tuned over as the row was."""
SHARED = ("groups",)
"""The row's options that it takes; the others are the other optimizer's own."""


@dataclass(frozen=True)
class DuelLimits:
    """When a duel ends undecided: after so many ``pairs``, or once its trials have taken ``hours``
    of cores or GPUs; None: no limit of that kind."""

    pairs: int | None = None
    hours: float | None = None

    def __post_init__(self) -> None:
        if self.pairs is None and self.hours is None:
            raise ConfigError("no budget: say when it ends, --budget HOURS or --seeds N")
        if self.pairs is not None and not fewest_pairs() <= self.pairs <= MOST_PAIRS:
            raise ConfigError(
                f"--seeds must be from {fewest_pairs()}, for fewer pairs cannot decide, to"
                f" {MOST_PAIRS:,}, got {self.pairs}"
            )
        if self.hours is not None and not 0 < self.hours < math.inf:
            raise ConfigError(f"--budget must be a positive time, got {self.hours:g} h")

    @property
    def most(self) -> int:
        return MOST_PAIRS if self.pairs is None else self.pairs


@dataclass(frozen=True)
class Duel:
    """The study with two rows, ``one`` and ``other``, which draw the same seeds; the column that is
    compared; and the difference that counts as none."""

    study: Study
    one: str
    other: str
    column: str
    limits: DuelLimits
    margin: float | None = None

    @property
    def metric(self) -> Metric:
        return metric_of(self.study.task["name"], self.column)

    @property
    def title(self) -> str:
        return self.study.columns.get(self.column, self.column)

    def over(self, pairs: int) -> Study:
        """The study in which the chosen points are repeated over so many seeds."""
        selection = dataclasses.replace(self.study.selection, repeats=pairs)
        return dataclasses.replace(self.study, selection=selection)

    def names(self, rows: Mapping[str, Outcome]) -> Names:
        edges = (tuple(rows[name].edges) for name in (self.one, self.other))
        return Names(self.one, self.other, *edges)

    def pairs(self, rows: Mapping[str, Outcome]) -> list[Pair]:
        """The seeds that both rows have a result for, up to the first that one of them lacks or on
        which one has failed; none before both are tuned."""
        found = []
        both = zip(rows[self.one].repeats, rows[self.other].repeats, strict=False)
        for (trial, record), (_, other) in both:
            if record is None or other is None or "failed" in (record.status, other.status):
                break
            curves = record.thinned().metrics, other.thinned().metrics
            found.append(Pair(trial.seed, self._score(record), self._score(other), curves))
        return found

    def _score(self, record: Record) -> float | None:
        if record.status == "diverged":
            return None
        value = record.column(self.column)
        if math.isnan(value):
            raise ConfigError(f"trial {record.id} has no {self.column}: compare another --column")
        return self.metric.sign * value


def load_duel(
    path: Path,
    one: str,
    other: str,
    limits: DuelLimits,
    *,
    scale: str,
    overrides: Sequence[str] = (),
    like: str | None = None,
    column: str | None = None,
    margin: float | None = None,
    check: Callable[[Study], object] = lambda study: None,
) -> Duel:
    """The duel of two rows, by their names or by an optimizer's, which takes the place of the row
    ``like`` (default: the other side, else the study's first row). Raises ConfigError."""
    if margin is not None and not 0 < margin < math.inf:
        raise ConfigError(f"--margin must be a positive number, got {margin:g}")
    whole = load_study(path, scale=scale, overrides=overrides, trying=False)
    if whole.halving is not None:
        raise ConfigError(f"{path} (scale {scale}): halving stops rows early; a duel trains both"
                          " to the end: choose another scale or study")  # fmt: skip
    labels = [_label(whole, name) for name in (one, other)]
    template = _template(whole, like, labels)
    added = []
    for place, name in enumerate((one, other)):
        if labels[place] is None:
            labels[place] = name
            added.append(_as_row(whole, name, template))
    sides = [label for label in labels if label is not None]
    if sides[0] == sides[1]:
        raise ConfigError(f"{one!r} and {other!r} are both the row {sides[0]!r}")
    study = load_study(
        path, scale=scale, overrides=[*overrides, *added], rows=sides, check=check, trying=True
    )
    return _checked(study, sides[0], sides[1], limits, column, margin)


def _label(study: Study, name: str) -> str | None:
    """The row of that name: `PowerSign` is also `PowerSign (cosine)`, the row with the study's own
    schedule. None if there is none."""
    if name in study.rows:
        return name
    same = [row for row in study.rows if row.partition(" (")[0].lower() == name.lower()]
    plain = [row for row in same if study.rows[row].schedule in (None, study.schedule)]
    found = plain or same
    if len(found) > 1:
        raise ConfigError(f"{name!r} may be one of several rows: {'; '.join(found)}")
    return found[0] if found else None


def _template(study: Study, like: str | None, labels: Sequence[str | None]) -> Row:
    """The row whose schedule and grid an optimizer by its name takes."""
    if like is not None:
        if None not in labels:
            raise ConfigError("--like is for an optimizer that is no row; both are rows here")
        label = _label(study, like)
        if label is None:
            raise ConfigError(unknown("row", like, study.rows))
        return study.rows[label]
    given = [label for label in labels if label is not None]
    return study.rows[given[0]] if given else next(iter(study.rows.values()))


def _as_row(study: Study, name: str, template: Row) -> str:
    """The word of a command line that adds an optimizer as a row. Raises ConfigError."""
    try:
        find_optimizer(in_language(name, study.language))
    except NosError as error:
        said = str(error).partition("\n  one of")[0]
        raise ConfigError(
            f"{name!r} is neither a row of {study.study} nor an optimizer\n"
            f"  rows: {'; '.join(study.rows)}\n  as an optimizer: {said}"
        ) from None
    sweep = {**study.sweep, **template.sweep}
    row = {
        "optimizer": name,
        "schedule": template.schedule,
        "schedule_options": template.schedule_options,
        "sweep": {key: sweep[key] for key in TUNED if key in sweep},
        "options": {key: template.options[key] for key in SHARED if key in template.options},
    }
    given = {key: value for key, value in row.items() if value}
    return f"+rows[{name}]={json.dumps(given)}"


def _checked(
    study: Study, one: str, other: str, limits: DuelLimits, column: str | None, margin: float | None
) -> Duel:
    """The duel, if the rows differ, are tuned over as many points and have a metric to compare."""
    rows = {name: dataclasses.replace(study.rows[name], seed=0) for name in (one, other)}
    study = dataclasses.replace(study, rows=rows, figure=None)
    settings = [row_settings(row, study) for row in rows.values()]
    if settings[0] == settings[1]:
        raise ConfigError(f"{one!r} and {other!r} are the same training: nothing to decide")
    if _updates_alike(settings[0]) == _updates_alike(settings[1]):
        raise ConfigError(
            f"{one!r} and {other!r} are the same rule, written differently: only rounding could"
            " tell them apart"
        )
    sizes = {
        name: (len(points(study, row)), len(possible_points(study, row)))
        for name, row in rows.items()
    }
    if sizes[one] != sizes[other]:
        few = min(sizes, key=lambda name: sizes[name])
        raise ConfigError(
            f"unequal tuning: {one!r} is tuned over {_size(*sizes[one])}, {other!r} over"
            f" {_size(*sizes[other])}\n  give both as many, e.g. 'rows[{few}].sweep.lr=[...]'"
        )
    return Duel(study, one, other, _column(study, column), limits, margin)


def _updates_alike(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The row's settings with what its rule does in place of how the rule is written."""
    found = find_optimizer(settings["optimizer"])
    rule = found.rule_with(settings["options"])
    if rule is None:
        return dict(settings)
    words = (
        {"decay"} if found.family is None else {"decay", *(c.name for c in found.family.constants)}
    )
    options = {key: value for key, value in settings["options"].items() if key not in words}
    return {**settings, "optimizer": rule.fingerprint(), "options": options}


def _size(first: int, possible: int) -> str:
    return f"{first} points" if first == possible else f"{first} points, which may grow"


def _column(study: Study, asked: str | None) -> str:
    """The column that is compared: the one asked for, else the study's first on test data."""
    if asked is not None:
        check_columns(study.task["name"], [asked])
    measured = [column for column in study.columns if column != STATE]
    first = next((c for c in measured if c.split("_")[1] == "test"), next(iter(measured), None))
    found = asked or first
    if found is None or found == STATE:
        raise ConfigError("nothing to compare: a duel needs a column that is measured, e.g."
                          " --column final_test")  # fmt: skip
    return found
