"""What is behind the numbers of a row, as a click on one of them shows it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nos_repro.experiments.grid import row_settings
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.experiments.store import Store
from nos_repro.report.pages.tables import Badge
from nos_repro.report.paths import last_parts
from nos_repro.report.study.why import TrialLine, Why, explain, known_of


@dataclass(frozen=True)
class BehindTrial:
    """A trial in the list: what `why` says about it, the commit that made it, where its log is."""

    line: TrialLine
    seed: int
    commit: str
    log: str
    """"" where there is none here."""
    remarks: list[str]


@dataclass(frozen=True)
class Behind:
    """A row's provenance; ``id`` names it on its page, ``settings`` are those of its trials."""

    id: str
    why: Why
    verdicts: list[tuple[str, str, Badge]]
    """Column, the paper's value with its place, and the verdict."""
    trials: list[BehindTrial]
    settings: list[tuple[str, str]]

    @property
    def without_log(self) -> int:
        """Trials whose records came with the repository."""
        return sum(trial.line.seconds is not None and not trial.log for trial in self.trials)


def behind_rows(study: Study, outcomes: Sequence[Outcome], store: Store) -> list[Behind]:
    """The provenance of every row, each explained once."""
    known = known_of(study, outcomes, store)
    logs = _logs(store)
    found = []
    for number, outcome in enumerate(outcomes):
        why = explain(study, outcome, store, known)
        own = [problem for problem in why.problems if problem not in store.problems]
        why = dataclasses.replace(why, problems=own)  # the page prints the store's own above
        verdicts = [
            (cell.title, f"{cell.paper} ({cell.place})", Badge(cell.verdict, why=cell.reason))
            for cell in why.verdicts
        ]
        trials = list(_trials(outcome, why, logs))
        settings = list(_flat(_settings(study, outcome)))
        found.append(Behind(f"why-{number}", why, verdicts, trials, settings))
    return found


def _trials(outcome: Outcome, why: Why, logs: Mapping[str, str]) -> Iterator[BehindTrial]:
    records = {record.id: record for record in outcome.records}
    for line, trial in zip(why.trials, outcome.trials, strict=True):
        record = records.get(line.id)
        commit = str(record.provenance.get("commit") or "unknown") if record is not None else "-"
        log, remarks = logs.get(line.id, ""), list(map(last_parts, line.remarks))
        yield BehindTrial(line, trial.seed, commit, log, remarks)


def _logs(store: Store) -> dict[str, str]:
    """The logs that are here, by trial, as paths from the folder that holds the results."""
    base = "/".join(store.root.absolute().parts[-3:])
    return {
        path.parent.name: f"{base}/trials/{path.parent.name}/log.txt"
        for path in (store.root / "trials").glob("*/log.txt")
    }


def _settings(study: Study, outcome: Outcome) -> dict[str, Any]:
    """Those of the trials that the cells are made of; those of the row where none is chosen."""
    if outcome.repeats:
        values = outcome.repeats[0][0].to_json()
    elif outcome.chosen is not None:
        values = outcome.chosen.trial.to_json()
    else:
        return row_settings(outcome.row, study)
    return {key: value for key, value in values.items() if key != "seed"}


def _flat(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value if isinstance(value, str) else json.dumps(value)
