"""The columns of a study's table: which value of which metric a name such as `best_test` shows."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from nos_repro.errors import ConfigError, unknown
from nos_repro.tasks.metrics import Metric
from nos_repro.tasks.registry import describe, find_metric

STATE = "optimizer_state"
# fmt: off
COLUMNS = {
    "final_val":  "validation metric after the last epoch",
    "final_test": "test metric after the last epoch",
    "best_val":   "best validation metric over the epochs",
    "best_test":  "test metric at the epoch of the best validation metric (002 Table 6)",
    STATE:        "values that the row's optimizer keeps per parameter; needs no record",
}
"""Columns that name no metric show the one that decides."""
# fmt: on
NAMED = re.compile("(?:final|best)_(train|val|test)_(.+)")
"""Columns that name a metric of the task: `final_test_bleu`, `final_train_loss`."""


@functools.cache
def metric_of(task: str, column: str) -> Metric:
    """The metric that a column shows. Raises ConfigError if the task has none of that name."""
    named = NAMED.fullmatch(column)
    return find_metric(task, named[2] if named else "")


def default_columns(task: str) -> dict[str, str]:
    """The columns of a study that names none."""
    metric = find_metric(task).name
    return {"best_val": f"Validation {metric}", "best_test": f"Test {metric}"}


def check_columns(task: str, columns: Iterable[str]) -> None:
    """Raises ConfigError, with the nearest name and the choice, for a column that a study of the
    task cannot have."""
    measures = describe(task).measures
    choice = [*COLUMNS, *(f"final_test_{metric.name}" for metric in measures)]
    choice += [f"final_train_{metric.name}" for metric in measures if metric.of_loss is not None]
    for column in columns:
        if column in COLUMNS:
            continue
        named = NAMED.fullmatch(column)
        asked = [metric for metric in measures if named and metric.name == named[2]]
        if not asked or (named and named[1] == "train" and asked[0].of_loss is None):
            raise ConfigError(unknown("columns", column, choice))
