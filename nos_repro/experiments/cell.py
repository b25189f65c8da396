"""`table2:PowerSign (cosine)`: a row of a study, as the command line names it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nos_repro.errors import ConfigError, unknown
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.settings_file import find_config


@dataclass(frozen=True)
class NamedCell:
    """A row of a study; of a study that halves its rows all are read, for they race."""

    study: Study
    row: str


def find_cell(
    given: str,
    *,
    scale: str,
    overrides: Sequence[str] = (),
    check: Callable[[Study], object] = lambda study: None,
) -> NamedCell:
    """Raises ConfigError for a name without a row, and for an unknown study or row."""
    config, colon, row = given.partition(":")
    if not colon or not row.strip():
        raise ConfigError(
            f"{given or '(empty)'}: name a study and a row, e.g. 'table2:PowerSign (cosine)'"
        )
    study = load_study(find_config(config), scale=scale, overrides=overrides, check=check)
    if row not in study.rows:
        raise ConfigError(unknown("row", row, study.rows))
    return NamedCell(study, row)
