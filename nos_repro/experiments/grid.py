"""From a study to its trials: the sweep of each row, then its repeats. A pure function."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nos_repro.experiments.growing import Span, growth_of
from nos_repro.experiments.layers import at, long_part, put
from nos_repro.experiments.schema import Row, Study
from nos_repro.experiments.trial import Training, Trial


@dataclass(frozen=True)
class Point:
    """One point of a row's grid: the values that the sweep gave it."""

    values: tuple[tuple[str, Any], ...]

    @property
    def lr(self) -> float:
        return float(dict(self.values)["lr"])

    @property
    def swept(self) -> dict[str, Any]:
        """The optimizer's options among the values: what is neither rate nor decay."""
        return {k: value for k, value in self.values if k not in ("lr", "weight_decay")}

    def __str__(self) -> str:
        return " ".join(
            f"{key}={value:g}" if isinstance(value, int | float) else f"{key}={value}"
            for key, value in self.values
        )


def points(study: Study, row: Row, span: Span | None = None) -> list[Point]:
    """Every combination of the row's sweep, in the order of the file. Of rates that grow, those of
    the span, or by default those that are tried first."""
    sweep: dict[str, Any] = {**study.sweep, **row.sweep}
    growth = growth_of(sweep)
    if growth is not None:
        sweep["lr"] = growth.rates(span or growth.start)
    combinations = itertools.product(*([(key, v) for v in sweep[key]] for key in sweep))
    return [Point(tuple(values)) for values in combinations]


def possible_points(study: Study, row: Row) -> list[Point]:
    """The same, of rates that grow all that could ever be tried."""
    growth = growth_of({**study.sweep, **row.sweep})
    return points(study, row, growth.possible if growth is not None else None)


def row_settings(row: Row, study: Study) -> dict[str, Any]:
    """What decides the row's trials in the study, besides `task`, `training` and `selection`."""
    return {
        "optimizer": row.optimizer,
        "schedule": row.schedule or study.schedule,
        "sweep": {**study.sweep, **row.sweep},
        "options": dict(row.options),
        "schedule_options": dict(row.schedule_options),
    }


def seeds(study: Study, row: Row) -> range:
    """The seed of the row's sweep, then one for each repeat of the chosen point."""
    first = study.selection.seed + row.seed
    return range(first, first + 1 + study.selection.repeats)


def sweep_trial(study: Study, row: Row, point: Point) -> Trial:
    """The trial that scores a point of the grid, at the sweep's length and seed."""
    return sweep_trials(study, row, [point])[0]


def sweep_trials(study: Study, row: Row, grid: Sequence[Point]) -> list[Trial]:
    """The trials that score the points of the row's grid."""
    epochs = study.selection.sweep_epochs or study.training.epochs
    training = dataclasses.replace(study.training, epochs=epochs)
    first = _trial(study, row, grid[0], training, seeds(study, row)[0])
    return [first, *(first.at(**_decided(row, point)) for point in grid[1:])]


def repeat_trials(study: Study, row: Row, point: Point) -> list[Trial]:
    """The chosen point at full length over fresh seeds, none of which helped to choose it."""
    fresh = seeds(study, row)[1:]
    if not fresh:
        return []
    first = _trial(study, row, point, study.training, fresh[0])
    return [first, *(first.at(seed=seed) for seed in fresh[1:])]


def _trial(study: Study, row: Row, point: Point, training: Training, seed: int) -> Trial:
    settings = dict(study.task)
    return Trial(
        task=settings.pop("name"),
        task_settings=settings,
        optimizer=row.optimizer,
        schedule=row.schedule or study.schedule,
        schedule_options=dict(row.schedule_options),
        training=training,
        seed=seed,
        **{"options": dict(row.options), **_decided(row, point)},
    )


def _decided(row: Row, point: Point) -> dict[str, Any]:
    """The fields of a trial that a point of the row's grid decides."""
    values = dict(point.values)
    rate, decay = float(values.pop("lr")), float(values.pop("weight_decay", 0.0))
    found: dict[str, Any] = {"lr": rate, "weight_decay": decay}
    return {**found, "options": options_at(row, values)} if values else found


def options_at(row: Row, values: Mapping[str, Any]) -> dict[str, Any]:
    """The row's options at a point of its grid; `split.rest.eps` is an option within another."""
    options: dict[str, Any] = dict(row.options)
    for key, value in values.items():
        path = key.split(".")
        if path[0] == "split" and (part := at(options, ".".join(path[:2]))) is not None:
            options = put(options, path[:2], long_part(part))
        options = put(options, path, value)
    return options
