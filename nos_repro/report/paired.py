"""Two optimizers compared over the same seeds: the mean difference, its interval, and a verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "level", "worse", "undecided"]

# fmt: off
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
     2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
     2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
"""Student's t with 1 to 30 degrees of freedom: 95 % lie within."""
# fmt: on

Scores = Mapping[int, float | None]
"""A score by seed, larger is better; None where the training diverged or failed."""


@dataclass(frozen=True)
class Comparison:
    """One less the other, over the ``n`` seeds on which both have a score.

    ``half``: of the 95 % interval, NaN for fewer than two seeds. ``lost`` and ``other_lost``:
    seeds, of those that both were trained by, on which the one or the other has none.
    """

    mean: float
    half: float
    n: int
    lost: int = 0
    other_lost: int = 0

    @property
    def verdict(self) -> Verdict:
        """ "level" where the interval holds 0. A score missing on a seed is a loss there: whoever
        loses so more often than the other is worse, whatever the rest says."""
        if self.lost != self.other_lost:
            return "worse" if self.lost > self.other_lost else "better"
        if math.isnan(self.half):
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
    half = t_975(n - 1) * statistics.stdev(differences) / math.sqrt(n) if n > 1 else math.nan
    lost = sum(a is None for a, _ in pairs)
    return Comparison(mean, half, n, lost, sum(b is None for _, b in pairs))


def t_975(degrees: int) -> float:
    """Student's t quantile; beyond the table, two terms of its expansion around the normal's."""
    if degrees <= len(T_975):
        return T_975[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
