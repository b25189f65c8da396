"""Where each algorithm of an arena stands, as numbers with intervals.

A run that never found what was asked for comes last, whatever it spent: it had stopped finding new
rules, or its budget was over. So a median over all runs needs no model of what it would have
needed, and is unknown only where half of the runs failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from nos_repro.report.claims.ranks import rankdata
from nos_repro.search.arena.runs import (
    ArenaRun,
    Records,
    RunRecord,
    chosen,
    code_of,
    final_runs,
    read_records,
    records_file,
    tuning_runs,
)
from nos_repro.search.arena.settings import Arena, Contestant

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES, SEED = 2000, 2017


@dataclass(frozen=True)
class Estimated:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RowStanding:
    """A row, the settings that it was tuned to, and its runs that count.

    section: None while it is being tuned; tried: its configurations; edges: the tuned settings that
    lie at an end of their grid; stale: runs that were played by other code.
    """

    name: str
    row: Contestant
    section: Mapping[str, Any] | None
    tried: int
    edges: list[str]
    wanted: int
    records: list[RunRecord]
    stale: int

    @property
    def complete(self) -> bool:
        return len(self.records) == self.wanted > 0

    @property
    def tuned(self) -> dict[str, Any]:
        """The settings that were chosen from a grid."""
        section = self.section or {}
        return {key: section[key] for key in self.row.grid if key in section}

    def reaches(self, budget: int) -> bool:
        """Whether its runs have that budget."""
        return bool(self.records) and all(r["run"]["children"] >= budget for r in self.records)

    def best_at(self, budget: int) -> dict[int, float]:
        """For every seed, the judges' reward of the best rule by then."""
        return {record["run"]["seed"]: judged_at(record, budget) for record in self.records}

    def needed(self, place: int, what: int = 0) -> list[float]:
        """For every run, the children (``what`` = 0) or strings (1) until the first rule of the
        ``place``-th top share; infinity if there was none."""
        return [
            math.inf if record["found"][place] is None else float(record["found"][place][what])
            for record in self.records
        ]


@dataclass(frozen=True)
class ArenaStanding:
    """An arena with its rows; ``folder`` is that of its records."""

    arena: Arena
    folder: Path
    rows: list[RowStanding]
    problems: list[str]

    @property
    def played(self) -> list[RowStanding]:
        return [row for row in self.rows if row.records]

    @property
    def reference(self) -> RowStanding | None:
        return next((row for row in self.played if row.name == self.arena.reference), None)

    def row(self, name: str) -> RowStanding | None:
        return next((row for row in self.rows if row.name == name), None)

    def ranks(self, budget: int) -> dict[str, Estimated]:
        """The mean rank of each row that has this budget, 1 for the best, over the seeds that all
        of them have; equal rules share a rank. The interval resamples the seeds."""
        import numpy as np

        rows = [row for row in self.played if row.reaches(budget)]
        best = [row.best_at(budget) for row in rows]
        seeds = sorted(set.intersection(*map(set, best))) if best else []
        if len(rows) < 2 or not seeds:
            return {}
        ranks = np.array([rankdata([-each[seed] for each in best]) for seed in seeds])
        return {
            row.name: Estimated(float(ranks[:, place].mean()), *bootstrap_mean(ranks[:, place]))
            for place, row in enumerate(rows)
        }


def standing(arena: Arena, results: Path) -> ArenaStanding:
    """The arena as its records have it. Raises RecordError for a damaged file."""
    path = records_file(results, arena.arena)
    records = Records(read_records(path))
    rows, problems = [], []
    for name, row in arena.contestants().items():
        section = chosen(arena, row, records)
        runs = final_runs(arena, row, section) if section is not None else []
        found = records.of(runs)
        stale = _stale(runs, records)
        if stale:
            problems.append(f"{name}: {stale} of {len(found)} runs were played by other code")
        edges = [
            key
            for key, values in row.grid.items()
            if section is not None and len(values) > 2 and _is_edge(section[key], values)
        ]
        tried = len(tuning_runs(arena, row)) or 1
        rows.append(RowStanding(name, row, section, tried, edges, len(runs), found, stale))
    return ArenaStanding(arena, path.parent, rows, problems)


def _stale(runs: Sequence[ArenaRun], records: Records) -> int:
    found = records.of(runs)
    return sum(record["code"] != code_of(runs[0]) for record in found)


def _is_edge(value: Any, values: Sequence[Any]) -> bool:
    return isinstance(value, int | float) and value in (min(values), max(values))


def judged_at(record: RunRecord, budget: int) -> float:
    """The judges' reward of the best rule among the first ``budget`` children; 0 if there is
    none."""
    found = 0.0
    for children, _, judged, _ in record["best"]:
        if children > budget:
            break
        found = judged
    return found


def mean_of(values: Sequence[float]) -> Estimated:
    """The mean, with the interval that resampling gives."""
    import numpy as np

    return Estimated(fmean(values), *bootstrap_mean(np.array(values)))


def bootstrap_mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5 and 97.5 % quantiles of the mean over resampled values."""
    import numpy as np

    source = np.random.default_rng(SEED)
    drawn = source.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def median_of(values: Sequence[float]) -> Estimated:
    """The median with its exact interval, from order statistics (the binomial distribution); both
    may be infinite. The interval is as wide as can be where there are fewer than 6 values."""
    ordered = sorted(values)
    n = len(ordered)
    middle = (ordered[(n - 1) // 2], ordered[n // 2])
    value = fmean(middle) if all(map(math.isfinite, middle)) else middle[1]
    below, ways, tail = 0, 1, 1  # in whole numbers: of thousands of runs, floats overflow
    while tail * 40 <= 2**n and below < n // 2:
        below += 1
        ways = ways * (n - below + 1) // below
        tail += ways
    if below == 0:
        return Estimated(value, 0.0, math.inf)
    return Estimated(value, ordered[below - 1], ordered[n - below])


def share_of(hits: int, n: int) -> Estimated:
    """A share with Wilson's interval."""
    z = 1.96
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimated(p, max(0.0, centre - half), min(1.0, centre + half))


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> Estimated | None:
    """Our median over theirs, with the interval of resampling both; None where either is
    infinite."""
    import numpy as np

    one, other = (np.array(values) for values in (ours, theirs))
    if not (np.isfinite(np.median(one)) and np.isfinite(np.median(other))):
        return None
    source = np.random.default_rng(SEED)
    drawn = [
        np.median(values[source.integers(len(values), size=(RESAMPLES, len(values)))], axis=1)
        for values in (one, other)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.nanquantile(drawn[0] / drawn[1], (0.025, 0.975))
    return Estimated(float(np.median(one) / np.median(other)), float(low), float(high))
