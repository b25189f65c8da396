"""Student's t, and two optimizers compared over the same seeds: the mean difference, its 95 %
interval, and a verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nos_repro.report.distributions import student_above, student_within

Verdict = Literal["better", "level", "worse", "undecided"]

Scores = Mapping[int, float | None]
"""A score by seed, larger is better; None where the training diverged or failed."""
LEVEL = 0.95
"""The level of every interval."""


def quantile(degrees: float) -> float:
    """The value that a share LEVEL of Student's t lies within, on either side of 0; NaN below one
    degree of freedom."""
    return student_within(LEVEL, degrees) if degrees >= 1 else math.nan


def above(t: float, degrees: float) -> float:
    """The probability of Student's t to lie at ``t`` or above."""
    return student_above(t, degrees)


@dataclass(frozen=True)
class Comparison:
    """One less the other, over the ``n`` seeds on which both have a score.

    ``error``: the standard error of the mean, NaN for fewer than two seeds. ``lost`` and
    ``other_lost``: the seeds that both were trained with and on which this one, or the other,
    has no score.
    """

    mean: float
    error: float
    n: int
    lost: int = 0
    other_lost: int = 0

    @property
    def half(self) -> float:
        """Half the width of Student's 95 % interval; NaN for fewer than two seeds."""
        return quantile(self.n - 1) * self.error

    @property
    def verdict(self) -> Verdict:
        """ "level" where the interval holds 0. A score missing on a seed is a loss there: the side
        that loses more often is worse, whatever the rest says. Differences that are all equal, and
        not 0, decide nothing: a coarse metric makes them by chance, and they tell no spread."""
        if self.lost != self.other_lost:
            return "worse" if self.lost > self.other_lost else "better"
        if math.isnan(self.half) or (self.error == 0 and self.mean != 0):
            return "undecided"
        if abs(self.mean) <= self.half:
            return "level"
        return "better" if self.mean > 0 else "worse"


def compare(one: Scores, other: Scores) -> Comparison:
    """``one`` less ``other``, paired by seed."""
    shared = sorted(one.keys() & other.keys())
    pairs = [(one[seed], other[seed]) for seed in shared]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    n = len(differences)
    mean = statistics.fmean(differences) if n else math.nan
    error = statistics.stdev(differences) / math.sqrt(n) if n > 1 else math.nan
    lost = sum(a is None for a, _ in pairs)
    return Comparison(mean, error, n, lost, sum(b is None for _, b in pairs))
