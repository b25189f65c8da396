"""A test that may be looked at after every pair: a confidence sequence of a mean difference.

Student's interval is wrong in 5 % of all cases at one number of pairs that is fixed beforehand.
Looked at after every pair, it is wrong sooner or later. This one is wrong *at any time* in at most
ALPHA of all cases, so that a duel may stop whenever it likes (Wang & Ramdas 2024, arXiv:2310.03722,
the e-process of their scale-invariant t-test, after Lai 1976; Jeffreys' Bayes factor with a normal
prior). It is the ratio of the likelihood of the t statistic under an effect (mean over spread) that
is normal with standard deviation EFFECT, to that under no effect: whatever the spread, its
expectation never grows if there is none, so it reaches 1 / ALPHA with probability ALPHA at most.

*Assumed*: the differences are independent and normal. Heavy tails make it more cautious. Skewness
makes it less so, which is what ALPHA leaves room for: at most 5 % are wrong up to the skewness of a
gamma distribution of shape 2, 1.4 (`tests/launch/test_duel_sequence.py`).
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.02
"""The share of sequences that ever leave out the true mean, of normal differences."""
LOST_ALPHA = 0.01
"""The same for the test on divergences."""
EFFECT = 1.0
"""The size of effect, mean difference over its spread, for which the test is most sensitive."""
MOST_PAIRS = 1000
SAME = 1e-9
"""A spread below this share of the scores is rounding."""


@functools.cache
def reach(n: int) -> float:
    """Half the width of the interval over ``n`` pairs, in sample standard deviations; infinite
    where so few decide nothing."""
    if n < 2:
        return math.inf
    shrink = 1 + n * EFFECT**2
    ratio = math.exp(2 / n * math.log(math.sqrt(shrink) / ALPHA))
    if ratio >= shrink:
        return math.inf
    squared = (ratio - 1) / (1 - ratio / shrink) * (n - 1)  # the t statistic's
    return math.sqrt(squared / n)


def evidence(t: float, n: int) -> float:
    """The e-value of Student's t over ``n`` pairs: against the mean from which t is measured."""
    shrink, u = 1 + n * EFFECT**2, t * t / (n - 1)
    value: float = shrink**-0.5 * ((1 + u) / (1 + u / shrink)) ** (n / 2)
    return value


def fewest_pairs() -> int:
    """No fewer pairs can decide, whatever they say."""
    return next(n for n in range(2, MOST_PAIRS) if math.isfinite(reach(n)))


@dataclass(frozen=True)
class MeanDifference:
    """The mean of ``n`` differences and their sample standard deviation; NaN where too few."""

    n: int
    mean: float
    spread: float

    @classmethod
    def of(cls, differences: Sequence[float], size: float) -> MeanDifference:
        """``size``: of the scores that were subtracted; a spread that is nothing beside it is 0."""
        n = len(differences)
        mean = math.fsum(differences) / n if n else math.nan
        squares = math.fsum((d - mean) ** 2 for d in differences)
        spread = math.sqrt(squares / (n - 1)) if n > 1 else math.nan
        return cls(n, mean, 0.0 if spread <= SAME * size else spread)

    @property
    def half(self) -> float:
        """Half the width of the interval. Equal differences say nothing of the spread."""
        return reach(self.n) * self.spread if self.spread > 0 else math.inf

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def within(self, margin: float) -> bool:
        """Whether the mean certainly lies within the margin."""
        return -margin <= self.low and self.high <= margin

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def more(self, margin: float | None) -> int | None:
        """How many more pairs would decide, were mean and spread to stay; None if MOST_PAIRS would
        not, or where the spread is not known."""

        def decided(n: int) -> bool:  # an interval narrows with every pair
            then = MeanDifference(n, self.mean, self.spread)
            return then.excludes_zero or (margin is not None and then.within(margin))

        numbers = range(self.n + 1, MOST_PAIRS + 1)
        least = bisect.bisect_left(numbers, True, key=decided)
        return least + 1 if self.spread > 0 and least < len(numbers) else None


def coin_evidence(one: int, other: int) -> float:
    """The e-value against a fair coin that fell ``one`` and ``other`` times: the coin's true chance
    is uniform under the alternative (Ville 1939)."""
    tosses = one + other
    return 2.0**tosses / ((tosses + 1) * math.comb(tosses, one))
