"""The records that claims are tested from: each study and search of a results folder, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import SCALES, Study
from nos_repro.experiments.selection import Outcome, outcomes
from nos_repro.experiments.settings_file import read_values, shipped
from nos_repro.experiments.store import Store
from nos_repro.report.claims.evidence import Finding
from nos_repro.report.search.history import History, read_history

Rows = dict[str, Outcome]


@dataclass
class Results:
    """A results folder. ``handed`` are the tests that a room downstream of this one has.

    ``files`` state the studies and searches, by their names; ``problems`` are what could not be
    read, a sentence each.
    """

    root: Path
    handed: Mapping[str, Callable[..., Finding]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=shipped)
    problems: list[str] = field(default_factory=list)
    _scales: dict[str, list[str]] = field(default_factory=dict)
    _studies: dict[tuple[str, str], tuple[Study, Rows]] = field(default_factory=dict)
    _stores: dict[tuple[str, str], Store] = field(default_factory=dict)
    _histories: dict[tuple[str, str], History] = field(default_factory=dict)

    def scales(self, name: str) -> list[str]:
        """The scales at which there is anything of a study or search, `paper` first."""
        if name not in self._scales:
            begun = [s for s in SCALES if self._begun(self.root / name / s)]
            known = read_values(self.files[name]).get("scales", {}) if begun else {}
            self._scales[name] = [scale for scale in begun if scale in known]
        return self._scales[name]

    @staticmethod
    def _begun(folder: Path) -> bool:
        return any((folder / name).exists() for name in ("records.jsonl", "trials", "log.jsonl"))

    def study(self, name: str, scale: str) -> tuple[Study, Rows]:
        """A study and what the records say of its rows."""
        if (name, scale) not in self._studies:
            study = load_study(self.files[name], scale=scale)
            store = Store(self.root, name, scale)
            rows = {outcome.name: outcome for outcome in outcomes(study, store)}
            self.problems += store.problems
            self._studies[name, scale] = study, rows
            self._stores[name, scale] = store
        return self._studies[name, scale]

    def store(self, name: str, scale: str) -> Store:
        """Where the records of a study lie."""
        self.study(name, scale)
        return self._stores[name, scale]

    def history(self, name: str, scale: str) -> History:
        """A search, as far as its logs tell it."""
        if (name, scale) not in self._histories:
            history = read_history(self.files[name], self.root, scale=scale)
            self.problems += history.problems
            self._histories[name, scale] = history
        return self._histories[name, scale]


class OfNoRow:
    """A test that speaks of no row of a study."""

    def named(self) -> Iterator[tuple[str, str]]:
        return iter(())


def not_run(scale: str, reason: str, **more: Any) -> Finding:
    return Finding(scale, "not run", reason, **more)
