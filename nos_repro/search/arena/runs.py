"""The runs of an arena, and their records: one line for each run.

A run is known by what it plays, not by its row: two rows that play the same share it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from nos_repro.experiments.code import code_digest
from nos_repro.experiments.files import read_file, read_json
from nos_repro.experiments.record import RecordError
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.arena.settings import Arena, Contestant, algorithm_section

RunRecord: TypeAlias = dict[str, Any]

FOLDER = "arena"
"""Within the results folder."""
PLAY = "nos_repro.search.arena.play:play"
FAILURE = 10
"""While tuning, a run that never finds a top rule counts as this many times its budget."""


@dataclass(frozen=True)
class ArenaRun:
    """One search over a table. ``children`` is its budget, ``draws`` the most strings, the rest
    as in the arena's file."""

    table: str
    task: str
    algorithm: Mapping[str, Any]
    space: Mapping[str, Any]
    controller: Mapping[str, Any]
    redraws: str
    seed: int
    children: int
    draws: int
    patience: int
    top: tuple[float, ...]
    converged: float

    @property
    def key(self) -> str:
        """The run as text; equal runs have equal ones."""
        return json.dumps(asdict(self), sort_keys=True)


def code_of(run: ArenaRun) -> str:
    """The digest of the code that plays a run."""
    return code_digest((PLAY, ALGORITHMS.entry(run.algorithm["name"]).origin))


def together(runs: Iterable[ArenaRun], size: int) -> list[list[ArenaRun]]:
    """The runs in groups of at most ``size`` that differ by their seeds alone; the group of the
    first run comes first."""
    groups: list[list[ArenaRun]] = []
    filling: dict[str, list[ArenaRun]] = {}
    for run in runs:
        kind = replace(run, seed=0).key
        if len(filling.get(kind, ())) in (0, size):
            filling[kind] = []
            groups.append(filling[kind])
        filling[kind].append(run)
    return groups


def key_of_record(record: RunRecord) -> str:
    """The key of the run that a record is about."""
    return json.dumps(record["run"], sort_keys=True)


class Records:
    """The records of an arena by their runs' keys; of several of one run, the last counts."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        self.by_key = {key_of_record(record): record for record in records}

    def __len__(self) -> int:
        return len(self.by_key)

    def add(self, record: RunRecord) -> None:
        self.by_key[key_of_record(record)] = record

    def of(self, runs: Iterable[ArenaRun]) -> list[RunRecord]:
        """The records of these runs, as far as there are any, in the runs' order."""
        return [self.by_key[run.key] for run in runs if run.key in self.by_key]


def tuning_runs(arena: Arena, row: Contestant) -> dict[int, list[ArenaRun]]:
    """The runs that choose a row's settings, for each of its configurations, by number; none if it
    has nothing to choose."""
    tuning = arena.tuning
    if tuning is None or not row.grid:
        return {}
    return {
        number: [
            _run(arena, row, tuning.table, tuning.task, section, 1000 + seed, tuning.children)
            for seed in range(tuning.seeds)
        ]
        for number, section in enumerate(row.configurations())
    }


def final_runs(arena: Arena, row: Contestant, section: Mapping[str, Any]) -> list[ArenaRun]:
    """The runs that count, one for each seed."""
    children = min(arena.budgets[-1], row.children or arena.budgets[-1])
    seeds = min(arena.seeds, row.seeds or arena.seeds)
    return [
        _run(arena, row, arena.table, arena.task, section, seed, children)
        for seed in range(arena.first_seed, arena.first_seed + seeds)
    ]


def _run(
    arena: Arena,
    row: Contestant,
    table: str,
    task: str,
    section: Mapping[str, Any],
    seed: int,
    children: int,
) -> ArenaRun:
    return ArenaRun(
        table,
        task,
        algorithm_section(dict(section)),
        dict(row.space),
        asdict(row.controller),
        row.redraws,
        seed,
        children,
        arena.draws * children,
        arena.patience,
        tuple(arena.top),
        arena.converged,
    )


def chosen(arena: Arena, row: Contestant, records: Records) -> dict[str, Any] | None:
    """The settings with which a row plays: the best configuration on the tuning table. None while
    tuning runs are missing."""
    configurations = row.configurations()
    runs = tuning_runs(arena, row)
    if not runs:
        return configurations[0]
    found = {number: records.of(tried) for number, tried in runs.items()}
    if any(len(found[number]) < len(tried) for number, tried in runs.items()):
        return None
    return configurations[min(found, key=lambda number: badness(found[number]))]


def badness(records: Iterable[RunRecord]) -> tuple[float, float]:
    """What tuning minimises: the mean logarithm of the children until a rule of the narrowest top
    share, a failure counting as FAILURE budgets; ties go to better rules at the end."""
    records = list(records)
    logs = [
        math.log((record["found"][-1] or [FAILURE * record["run"]["children"]])[0])
        for record in records
    ]
    return fmean(logs), -fmean(record["best"][-1][1] if record["best"] else 0.0
                               for record in records)  # fmt: skip


def records_file(results: Path, name: str) -> Path:
    """Where a results folder keeps the records of an arena."""
    return results / FOLDER / name / "runs.jsonl"


def read_records(path: Path) -> Iterator[RunRecord]:
    """The records of a file; a torn last line, of a process that was killed, is left out. Raises
    RecordError, which names a line that is not a record."""
    data = read_file(path) or b""
    lines = data.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    for number, line in enumerate(lines, 1):
        yield _record(line, f"{path}, line {number}")


def _record(line: bytes, where: str) -> RunRecord:
    try:
        record = read_json(line)
    except ValueError as error:
        raise RecordError(f"{where}: corrupt ({error}); repair or remove the line") from None
    for key, fits in FITS.items():
        if not isinstance(record, dict) or key not in record or not fits(record[key]):
            raise RecordError(
                f"{where}: not a record of a run ('{key}' is missing or invalid); repair or remove"
                " the line"
            )
    return record  # type: ignore[no-any-return]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list_of(fits: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and length in (None, len(value)) and all(map(fits, value))
    )


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _are_ends(value: Any) -> bool:
    means = _or_none(_is_list_of(_is_number, 2))
    return isinstance(value, dict) and all(
        key in value and means(value[key]) for key in ("children", "strings")
    )


# fmt: off
FITS: dict[str, Callable[[Any], bool]] = {
    "run":       lambda value: isinstance(value, dict),
    "code":      lambda value: isinstance(value, str),
    "children":  _is_count,
    "drawn":     _is_count,
    "capped":    lambda value: isinstance(value, bool),
    "best":      _is_list_of(_is_list_of(_is_number, 4)),
    "found":     _is_list_of(_or_none(_is_list_of(_is_count, 2))),
    "converged": _or_none(_is_count),
    "ends":      _are_ends,
    "place":     _or_none(_is_number),
    "seconds":   _is_number,
}
"""What a record holds, as far as tuning, tables and claims read it."""
# fmt: on
