"""How long the rows of a study take to reach a target, and their performance profile.

A *target* is a value of the validation metric that some row ends at: the mean over its finished
runs after their last epoch. So every target is one that training came to, and none is our choice.
A run's *time* to a target is the first evaluation on record at which it is that good or better;
a run that never is, or that has diverged, has time infinity.

The performance profile is Dolan and Moré's (Benchmarking optimization software with performance
profiles, Math. Program. 91, 2002): a problem is a pair of target and run number, which all rows
are set; of a problem that some row solves, a row's ratio is its time over the fastest row's; a
row's profile at tau is the share of these problems in which its ratio is tau or less. At tau = 1
it is how often the row is the fastest, at the right end how often it arrives at all. Profiles
rank against the best row only: leave rows out, and the order of two others may change (Gould and
Scott, A note on performance profiles, ACM TOMS 43, 2016).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nos_repro.experiments.record import Record
from nos_repro.experiments.selection import Outcome


@dataclass(frozen=True)
class Run:
    """A run's validation metric by epoch, larger is better; no points where it has diverged."""

    points: list[tuple[float, float]]
    epoch_seconds: float
    """The mean over the run, training and evaluation."""
    finished: bool

    def time(self, target: float) -> float:
        """Epochs until it is as good as ``target``; infinite where it never is."""
        return next((epoch for epoch, value in self.points if value >= target), math.inf)

    def seconds(self, target: float) -> float:
        """The same in seconds, as if all of its epochs had taken the same time."""
        time = self.time(target)
        return time * self.epoch_seconds if math.isfinite(time) else math.inf


@dataclass(frozen=True)
class Racer:
    """A row whose runs have all ended without a failure. ``number``: its place in the study."""

    number: int
    runs: list[Run]

    @property
    def end(self) -> float | None:
        """What its finished runs end at, on average."""
        values = [run.points[-1][1] for run in self.runs if run.finished and run.points]
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class Profile:
    """A row's share of problems solved within each factor ``tau`` of the fastest: a step function
    that begins at 1 and rises at each of ``taus``."""

    number: int
    taus: list[float]
    shares: list[float]


@dataclass(frozen=True)
class Profiles:
    """The profiles of all rows over ``problems`` problems; ``unsolved`` more no row solves."""

    rows: list[Profile]
    problems: int
    unsolved: int


def racers(outcomes: Sequence[Outcome]) -> list[Racer]:
    """The rows that can be timed. A row that is not complete, or has failed, is no part of it."""
    found = []
    for number, outcome in enumerate(outcomes):
        records, asked = outcome.counting, len(outcome.repeats) or 1
        if len(records) == asked and all(record.status != "failed" for record in records):
            found.append(Racer(number, [_run(record) for record in records]))
    return found


def _run(record: Record) -> Run:
    sign = 1.0 if record.direction == "max" else -1.0
    key = f"val_{record.metric}"
    points = [(p["epoch"], sign * p[key]) for p in record.thinned().metrics if key in p]
    alive = record.status != "diverged"
    pace = record.seconds / record.epoch if record.epoch else 0.0
    return Run(points if alive else [], pace, record.status == "finished")


def targets(rows: Sequence[Racer]) -> list[float]:
    """The values that rows end at, the hardest first, each once."""
    return sorted({row.end for row in rows if row.end is not None}, reverse=True)


def target_of(rows: Sequence[Racer], share: float) -> float:
    """The hardest target that this share of the rows that end somewhere ends at, or beyond."""
    values = sorted((row.end for row in rows if row.end is not None), reverse=True)
    return values[max(0, math.ceil(share * len(values)) - 1)]


def profiles(rows: Sequence[Racer], *, seconds: bool = False) -> Profiles:
    """The performance profiles over all targets and runs."""
    runs = min((len(row.runs) for row in rows), default=0)
    ratios: list[list[float]] = [[] for _ in rows]
    unsolved = 0
    for target in targets(rows):
        for k in range(runs):
            times = [r.runs[k].seconds(target) if seconds else r.runs[k].time(target) for r in rows]
            best = min(times)
            if math.isinf(best):
                unsolved += 1
                continue
            for own, time in zip(ratios, times, strict=True):
                own.append(_ratio(time, best))
    problems = len(ratios[0]) if ratios else 0
    found = [_profile(row.number, own) for row, own in zip(rows, ratios, strict=True)]
    return Profiles(found, problems, unsolved)


def _ratio(time: float, best: float) -> float:
    """A time over the fastest; where that took none at all, only another such is as fast."""
    if best == 0:
        return 1.0 if time == 0 else math.inf
    return time / best


def _profile(number: int, ratios: Sequence[float]) -> Profile:
    taus = sorted({1.0, *(ratio for ratio in ratios if math.isfinite(ratio))})
    shares = [sum(ratio <= tau for ratio in ratios) / max(1, len(ratios)) for tau in taus]
    return Profile(number, taus, shares)
