"""The time to a target, its intervals, and the scores of a board: numbers only.

A row's *curve* on a task is the mean of its runs' validation metric, evaluation by evaluation. The
*target* is the best value that the reference's curve has reached after a `TARGET_SHARE` of its
training. A row's *time* is the share of the training after which its curve first reaches the
target, interpolated between evaluations; infinite if it never does. Its *speed-up* is the
reference's time over its own, its *score* the geometric mean of its speed-ups over the tasks, where
NEVER stands for an infinite time.

The mean curve is timed, not each run: of two equal optimizers, a single run misses a target near
the other's end about every second time, and a mean over times could not tell that from failure.

Intervals resample the seeds that all rows share, task by task: n - 1 of n with replacement, so that
the variance of a mean over the draws is s^2 / n and not smaller (Rao and Wu, Resampling inference
with complex survey data, JASA 83, 1988). They are the 2.5 and 97.5 % quantiles. Few seeds have few
different draws: on one task such an interval holds the truth less often than in 95 % of cases
(`HOLDS`); over several tasks, whose draws are independent, that evens out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TARGET_SHARE = 0.8
"""By then the reference must have reached the target. Under a cosine nothing is gained in the last
twentieth of a training, so a target from there is a matter of luck even for an equal optimizer."""
NEVER = 2.0
"""The time, in whole trainings, that a row is charged where it never reaches a target."""
RESAMPLES, SEED = 2000, 2017
HOLDS = {2: 0.50, 3: 0.75, 4: 0.82, 5: 0.86}
"""How often, by the number of seeds, the interval of a mean on one task holds the true mean, of
normal values."""


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


def geometric_mean(speedups: Sequence[Floats]) -> Floats:
    """Over the tasks, draw by draw."""
    mean: Floats = np.exp(np.mean([np.log(each) for each in speedups], axis=0))
    return mean


def estimated(value: float, draws: Floats | None) -> Bounded:
    """``draws``: the same number of each draw; None where there is a single seed."""
    if draws is None:
        return Bounded(value, math.nan, math.nan)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Bounded(value, float(low), float(high))
