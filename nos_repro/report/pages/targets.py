"""How long the rows of a study take to reach a target, and their performance profile.

A *target* is a value of the validation metric that some row ends at: the mean over its finished
runs after their last epoch. So training reached every target, and none is our choice.
A run's *time* to a target is the first evaluation on record at which it is that good or better;
a run that never is, or that has diverged, has time infinity.

The performance profile is Dolan and Moré's (Benchmarking optimization software with performance
profiles, Math. Program. 91, 2002): a problem is a pair of target and run number, the same for all
rows; in a problem that some row solves, a row's ratio is its time over the fastest row's; a
row's profile at tau is the share of these problems in which its ratio is tau or less. At tau = 1
it is how often the row is the fastest, at the right end how often it arrives at all. Profiles
rank against the best row only: leave rows out, and the order of two others may change (Gould and
Scott, A note on performance profiles, ACM TOMS 43, 2016).
"""

from __future__ import annotations

import bisect
import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nos_repro.experiments.record import Record
from nos_repro.experiments.selection import Outcome

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TimedRun:
    """A run's validation metric by epoch, larger is better; no points where it has diverged."""

    points: list[tuple[float, float]]
    epoch_seconds: float
    """The mean over the run, training and evaluation."""
    finished: bool

    def time(self, target: float) -> float:
        """Epochs until it is as good as ``target``; infinite where it never is."""
        epochs, best = self._bests
        place = bisect.bisect_left(best, target)
        return float(epochs[place]) if place < len(epochs) else math.inf

    def seconds(self, target: float) -> float:
        """The same in seconds, as if all of its epochs had taken the same time."""
        epochs = self.time(target)
        return epochs * self.epoch_seconds if math.isfinite(epochs) else math.inf

    def times(self, targets: Sequence[float], *, seconds: bool = False) -> Floats:
        """Epochs, or seconds, to each of ``targets``."""
        epochs, best = self._bests
        pace = self.epoch_seconds if seconds else 1.0
        times = np.array([*(epoch * pace for epoch in epochs), math.inf])
        found: Floats = times[np.searchsorted(best, targets)]
        return found

    @functools.cached_property
    def _bests(self) -> tuple[list[float], list[float]]:
        """Each epoch that is better than all before it, and its value."""
        epochs: list[float] = []
        best: list[float] = []
        for epoch, value in self.points:
            if value > (best[-1] if best else -math.inf):
                epochs.append(epoch)
                best.append(value)
        return epochs, best


@dataclass(frozen=True)
class Racer:
    """A row whose runs have all ended without a failure. ``number``: its place in the study."""

    number: int
    runs: list[TimedRun]

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
    """The profiles of all rows over ``problems`` problems; no row solves ``unsolved`` others."""

    rows: list[Profile]
    problems: int
    unsolved: int


def racers(outcomes: Sequence[Outcome]) -> list[Racer]:
    """The rows that can be timed: those that are complete and have not failed."""
    found = []
    for number, outcome in enumerate(outcomes):
        records, asked = outcome.counting, len(outcome.repeats) or 1
        if len(records) == asked and all(record.status != "failed" for record in records):
            found.append(Racer(number, [_run(record) for record in records]))
    return found


def _run(record: Record) -> TimedRun:
    key = f"val_{record.metric}"
    points = [(p["epoch"], record.sign * p[key]) for p in record.thinned().metrics if key in p]
    alive = record.status != "diverged"
    pace = record.seconds / record.epoch if record.epoch else 0.0
    return TimedRun(points if alive else [], pace, record.status == "finished")


def targets(rows: Sequence[Racer]) -> list[float]:
    """The values that rows end at, the hardest first, each once."""
    return sorted({row.end for row in rows if row.end is not None}, reverse=True)


def target_of(rows: Sequence[Racer], share: float) -> float:
    """The hardest target that this share of the rows with an end reaches or passes."""
    values = sorted((row.end for row in rows if row.end is not None), reverse=True)
    return values[max(0, math.ceil(share * len(values)) - 1)]


def profiles(rows: Sequence[Racer], *, seconds: bool = False) -> Profiles:
    """The performance profiles over all targets and runs."""
    runs = min((len(row.runs) for row in rows), default=0)
    goals = targets(rows)
    times = np.array(
        [[run.times(goals, seconds=seconds) for run in row.runs[:runs]] for row in rows]
    ).reshape(len(rows), runs * len(goals))
    solved = np.isfinite(times).any(axis=0)
    found = profiles_of([row.number for row in rows], times[:, solved]) if rows else []
    return Profiles(found, int(solved.sum()), int((~solved).sum()))


def profiles_of(numbers: Sequence[int], times: Floats) -> list[Profile]:
    """The profiles of rows of these numbers. ``times``: (rows, problems), each solved by some row.
    Where the fastest took no time at all, only another such is as fast."""
    best = times.min(axis=0)
    ratios = np.full_like(times, math.inf)
    np.divide(times, best, out=ratios, where=best > 0)
    ratios[times == best] = 1.0
    return [_profile(number, own) for number, own in zip(numbers, ratios, strict=True)]


def _profile(number: int, ratios: Floats) -> Profile:
    taus = np.union1d([1.0], ratios[np.isfinite(ratios)])
    shares = np.searchsorted(np.sort(ratios), taus, side="right") / max(1, len(ratios))
    return Profile(number, taus.tolist(), shares.tolist())
