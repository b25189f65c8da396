"""What is behind the numbers of a row, as a click on one of them shows it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nos_repro.experiments.grid import row_settings
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.experiments.store import Store
from nos_repro.report.pages.tables import Badge
from nos_repro.report.paths import last_parts
from nos_repro.report.study.verdict import CellVerdict
from nos_repro.report.study.why import TrialLine, Why, explain, known_of
from nos_repro.report.words import versions


@dataclass(frozen=True)
class Behind:
    """A row's provenance; ``logs`` are its trials' logs that are here, ``settings`` those of the
    trials that its cells are made of."""

    why: Why
    verdicts: list[tuple[str, str, Badge]]
    """Column, the paper's value with its place, and the verdict."""
    records: dict[str, Record]
    logs: dict[str, str]
    seeds: list[int]
    """Of the trials, in their order."""
    settings: list[tuple[str, str]]


def behind_rows(
    study: Study, outcomes: Sequence[Outcome], store: Store, judged: list[CellVerdict]
) -> list[Behind]:
    """The provenance of every row, each explained once; ``judged`` are the study's cells."""
    known = known_of(study, outcomes, store, judged)
    logs = _logs(store)
    found = []
    for outcome in outcomes:
        why = explain(study, outcome, store, known)
        own = [problem for problem in why.problems if problem not in store.problems]
        why = dataclasses.replace(why, problems=own)  # the page prints the store's own above
        verdicts = [
            (
                cell.title,
                f"{cell.paper} ({versions(cell.place)})",
                Badge(cell.verdict, why=cell.reason),
            )
            for cell in why.verdicts
        ]
        records = {record.id: record for record in outcome.records}
        seeds = [trial.seed for trial in outcome.trials]
        settings = list(_flat(_settings(study, outcome)))
        found.append(Behind(why, verdicts, records, logs, seeds, settings))
    return found


def behind_json(behind: Sequence[Behind]) -> dict[str, Any]:
    """What the page's script reads (`assets/behind.js`): texts that come again and again, once in
    ``words``, and else by their places there."""
    words: dict[str, int] = {}

    def place(text: str) -> int:
        return words.setdefault(text, len(words))

    rows = [_row_json(each, place) for each in behind]
    return {"rows": rows, "words": list(words)}


def _row_json(behind: Behind, place: Callable[[str], int]) -> dict[str, Any]:
    why = behind.why
    return {
        "row": why.row,
        "protocol": f"{why.study}, scale {why.scale}; {why.protocol}",
        "numbers": [[title, text] for title, text in why.numbers.items()],
        "chosen": why.chosen,
        "verdicts": [
            [
                badge.kind,
                badge.sign,
                badge.text,
                f"{title} against the paper's {paper}: {badge.why}",
            ]
            for title, paper, badge in behind.verdicts
        ],
        "problems": why.problems,
        "origin": why.origin,
        "settings": behind.settings,
        "trials": [
            _trial_json(behind, line, seed, place)
            for line, seed in zip(why.trials, behind.seeds, strict=True)
        ],
    }


def _trial_json(
    behind: Behind, line: TrialLine, seed: int, place: Callable[[str], int]
) -> list[Any]:
    record = behind.records.get(line.id)
    commit = str(record.provenance.get("commit") or "unknown") if record is not None else "-"
    value = None if line.value is None else float(f"{line.value:.6g}")
    seconds = None if line.seconds is None else round(line.seconds)
    return [
        place(line.stage),
        line.id,
        place(line.label.removesuffix(f" seed={seed}")),
        seed,
        place(line.status),
        value if value is None or math.isfinite(value) else None,
        seconds,
        place(commit),
        place("; ".join(map(last_parts, line.remarks)) if line.remarks else ""),
        behind.logs.get(line.id, ""),
        int(line.chosen),
    ]


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
