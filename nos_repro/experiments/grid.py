"""From a study to its trials: the sweep of each row, then its repeats. A pure function."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nos_repro.experiments.schema import Row, Study
from nos_repro.experiments.trial import Trial


@dataclass(frozen=True)
class Point:
    """One point of a row's grid: the values that the sweep gave it."""

    values: tuple[tuple[str, Any], ...]

    @property
    def lr(self) -> float:
        return float(dict(self.values)["lr"])

    def __str__(self) -> str:
        return " ".join(
            f"{key}={value:g}" if isinstance(value, int | float) else f"{key}={value}"
            for key, value in self.values
        )


def points(study: Study, row: Row) -> list[Point]:
    """Every combination of the row's sweep, in the order of the file."""
    sweep: Mapping[str, list[Any]] = {**study.sweep, **row.sweep}
    combinations = itertools.product(*([(key, v) for v in sweep[key]] for key in sweep))
    return [Point(tuple(values)) for values in combinations]


def row_settings(row: Row, study: Study) -> dict[str, Any]:
    """What decides the row's trials in the study, besides `task`, `training` and `selection`."""
    return {
        "optimizer": row.optimizer,
        "schedule": row.schedule or study.schedule,
        "sweep": {**study.sweep, **row.sweep},
        "options": dict(row.options),
        "schedule_options": dict(row.schedule_options),
    }


def sweep_trial(study: Study, row: Row, point: Point) -> Trial:
    """The trial that scores a point of the grid, at the sweep's length and seed."""
    epochs = study.selection.sweep_epochs or study.training.epochs
    training = dataclasses.replace(study.training, epochs=epochs)
    return _trial(study, row, point, training, study.selection.seed + row.seed)


def repeat_trials(study: Study, row: Row, point: Point) -> list[Trial]:
    """The chosen point at full length over fresh seeds, none of which helped to choose it."""
    first = study.selection.seed + row.seed + 1
    return [
        _trial(study, row, point, study.training, first + n) for n in range(study.selection.repeats)
    ]


def _trial(study: Study, row: Row, point: Point, training: Any, seed: int) -> Trial:
    values = dict(point.values)
    settings = dict(study.task)
    name = settings.pop("name")
    return Trial(
        task=name,
        task_settings=settings,
        optimizer=row.optimizer,
        lr=float(values.pop("lr")),
        weight_decay=float(values.pop("weight_decay", 0.0)),
        options={**row.options, **values},
        schedule=row.schedule or study.schedule,
        schedule_options=dict(row.schedule_options),
        training=training,
        seed=seed,
    )
