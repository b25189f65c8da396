"""The time to a target, its intervals, and the scores of a board: numbers only.

A row's *curve* on a task is the mean of its runs' validation metric, evaluation by evaluation. The
*target* is the best value that the reference's curve has reached after a `TARGET_SHARE` of its
training. A row's *time* is the share of the training after which its curve first reaches the
target, interpolated between evaluations; infinite if it never does. Its *speed-up* is the
reference's time over its own, its *score* the geometric mean of its speed-ups over the tasks, where
NEVER stands for an infinite time.

The mean curve is timed, not each run: of two equal optimizers, a single run misses a target near
the other's end about every second time, and a mean over times could not tell that from failure.

Intervals are Student's, of logarithms. The error of a speed-up comes from resampling the seeds that
all rows share, task by task: n - 1 of n with replacement, so that the variance of a mean over the
draws is s^2 / n and not smaller (Rao and Wu, Resampling inference with complex survey data, JASA
83, 1988); it has n - 1 degrees of freedom. That of a score is the errors of its tasks, whose seeds
are independent, put together; its degrees of freedom are Satterthwaite's (An approximate
distribution of estimates of variance components, Biometrics Bulletin 2, 1946).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nos_repro.report.statistics import quantile

Floats = NDArray[np.float64]

TARGET_SHARE = 0.8
"""By then the reference must have reached the target. Under a cosine nothing is gained in the last
twentieth of a training, so a target from there is a matter of luck even for an equal optimizer."""
NEVER = 2.0
"""The time, in whole trainings, that a row is charged where it never reaches a target."""
RESAMPLES, SEED = 2000, 2017


class Bounded(NamedTuple):
    """A number and its 95 % interval; NaN ends where one seed cannot give any."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Runs:
    """A row's runs on one task.

    epochs: those that all runs evaluated; values: (runs, epochs), larger is better; diverged:
    (runs,), whose values do not matter.
    """

    epochs: Floats
    values: Floats
    diverged: NDArray[np.bool_]

    def curves(self, draws: NDArray[np.int64]) -> Floats:
        """(draws, epochs): the mean of each draw's runs; -inf with a diverged run among them."""
        n = len(self.values)
        counts = np.stack([(draws == run).sum(axis=1) for run in range(n)], axis=1)
        known = np.where(self.diverged[:, None], 0.0, self.values)
        means: Floats = counts @ known / draws.shape[1]
        means[counts[:, self.diverged].any(axis=1)] = -math.inf
        return means


def all_runs(n: int) -> NDArray[np.int64]:
    """The one draw that takes each of ``n`` runs once."""
    return np.arange(n)[None, :]


def drawn_runs(n: int, task: int) -> NDArray[np.int64]:
    """(RESAMPLES, n - 1) numbers of runs, the same for all rows of the ``task``th task."""
    source = np.random.default_rng([SEED, task])
    return source.integers(n, size=(RESAMPLES, max(1, n - 1)))


def targets_at(runs: Runs, curves: Floats, epoch: float) -> Floats:
    """The best value of each curve up to an epoch; between evaluations on a straight line."""
    before = runs.epochs <= epoch
    best: Floats = curves[:, before].max(axis=1, initial=-math.inf)
    after = int(before.sum())
    if 0 < after < len(runs.epochs):
        left, right = runs.epochs[after - 1], runs.epochs[after]
        part = (epoch - left) / (right - left)
        there = curves[:, after - 1] + part * (curves[:, after] - curves[:, after - 1])
        best = np.maximum(best, there)
    return best


def times_to(runs: Runs, curves: Floats, targets: Floats, epochs: float) -> Floats:
    """The share of a training of so many epochs after which each curve first reaches its target.

    Before its first evaluation a curve is not known, so no time is shorter than that.
    """
    times = np.full(len(curves), math.inf)
    arrives = (curves >= targets[:, None]).any(axis=1)
    curves, targets = curves[arrives], targets[arrives]
    first = (curves >= targets[:, None]).argmax(axis=1)
    before = np.maximum(first - 1, 0)
    rows = np.arange(len(curves))
    below, above = curves[rows, before], curves[rows, first]
    part = np.ones(len(curves))
    np.divide(targets - below, above - below, out=part, where=first > 0)
    left, right = runs.epochs[before], runs.epochs[first]
    times[arrives] = (left + part * (right - left)) / epochs
    return times


def charged(times: Floats) -> Floats:
    """The times with NEVER for infinity."""
    return np.where(np.isfinite(times), times, NEVER)


@dataclass(frozen=True)
class Spread:
    """The standard error of a logarithm, and its degrees of freedom."""

    error: float
    freedom: float


def spread_of(draws: Floats, seeds: int) -> Spread:
    """Of a speed-up by its value in each resample of so many seeds."""
    return Spread(float(np.log(draws).std()), seeds - 1)


def mean_spread(each: Sequence[Spread]) -> Spread:
    """Of the geometric mean of independent speed-ups."""
    squares = [spread.error**2 for spread in each]
    total = sum(squares)
    if total == 0:
        return Spread(0.0, sum(spread.freedom for spread in each))
    parts = zip(squares, each, strict=True)
    freedom = total**2 / sum(square**2 / spread.freedom for square, spread in parts)
    return Spread(math.sqrt(total) / len(each), freedom)


def bounded(value: float, spread: Spread | None) -> Bounded:
    """A speed-up or score with its interval; ``spread`` is None where there is a single seed."""
    if spread is None:
        return Bounded(value, math.nan, math.nan)
    factor = math.exp(quantile(spread.freedom) * spread.error)
    return Bounded(value, value / factor, value * factor)
