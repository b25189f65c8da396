"""The records that claims are tested from: each study and search of a results folder, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nos_repro.errors import ConfigError, unknown
from nos_repro.experiments.files import file_names, is_there
from nos_repro.experiments.layers import scales_of
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, outcomes
from nos_repro.experiments.settings_file import read_values, shipped
from nos_repro.experiments.store import Store
from nos_repro.report.figures.base import figure_of
from nos_repro.report.search.history import History, read_history

Rows = dict[str, Outcome]


@dataclass
class Results:
    """A results folder.

    ``files`` state the studies and searches, by their names; ``trust`` lets a search's folder name
    any module (`read_history`); ``problems`` say what could not be read, one sentence each.
    """

    root: Path
    files: Mapping[str, Path] = field(default_factory=shipped)
    trust: bool = False
    problems: list[str] = field(default_factory=list)
    _scales: dict[str, list[str]] = field(default_factory=dict)
    _studies: dict[tuple[str, str], tuple[Study, Rows]] = field(default_factory=dict)
    _stores: dict[tuple[str, str], Store] = field(default_factory=dict)
    _histories: dict[tuple[str, str], History] = field(default_factory=dict)

    def scales(self, name: str) -> list[str]:
        """The scales of a study or search at which there is anything, in the order of its file.
        Raises StoreError where that cannot be found out."""
        if name not in self._scales:
            folder = self.root / name
            begun = {scale for scale in file_names(folder) if self._begun(folder / scale)}
            known = scales_of(read_values(self.files[name])) if begun else {}
            self._scales[name] = [scale for scale in known if scale in begun]
        return self._scales[name]

    def check_scale(self, scale: str) -> None:
        """Raises ConfigError where none of the files has a scale of that name."""
        known = {each for path in self.files.values() for each in scales_of(read_values(path))}
        if scale not in known:
            raise ConfigError(unknown("scale", scale, known))

    @staticmethod
    def _begun(folder: Path) -> bool:
        return any(is_there(folder / name) for name in ("records.jsonl", "trials", "log.jsonl"))

    def study(self, name: str, scale: str) -> tuple[Study, Rows]:
        """A study and what the records say of its rows."""
        if (name, scale) not in self._studies:
            study = load_study(self.files[name], scale=scale, check=figure_of, trying=False)
            store = Store(self.root, name, scale)
            rows = {outcome.name: outcome for outcome in outcomes(study, store)}
            self.problems += store.problems
            self._studies[name, scale] = study, rows
            self._stores[name, scale] = store
        return self._studies[name, scale]

    def declared(self, name: str) -> Study:
        """A study at the first scale of its file, where no record is needed."""
        path = self.files[name]
        return load_study(path, scale=next(iter(scales_of(read_values(path)))), trying=False)

    def store(self, name: str, scale: str) -> Store:
        """Where the records of a study lie."""
        self.study(name, scale)
        return self._stores[name, scale]

    def history(self, name: str, scale: str) -> History:
        """A search, as far as its logs tell it."""
        if (name, scale) not in self._histories:
            history = read_history(self.files[name], self.root, scale=scale, trust=self.trust)
            self.problems += history.problems
            self._histories[name, scale] = history
        return self._histories[name, scale]
