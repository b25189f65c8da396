"""How many different rules a policy really writes: the entropy of its rules, from draws.

Many strings write one rule, and tokens that do not count may be anything: the entropy of the
strings stays high while the policy writes the same few rules. That of the rules has no formula,
since equal rules are known by what they do.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

DIRECT, ENOUGH = 20.0, 40.0
"""Up to where a series' closed form keeps its digits, and from where its terms are negligible."""


class RuleEntropy(NamedTuple):
    """An estimate in nats with its standard error, and the draws that it comes from."""

    nats: float
    error: float
    draws: int
    distinct: int

    def __str__(self) -> str:
        return f"{self.nats:.2f} ± {self.error:.2f}"


def rule_entropy(keys: Iterable[str]) -> RuleEntropy:
    """The entropy of the distribution that ``keys`` were drawn from independently, one per draw.

    By Chao, Wang & Jost (2013), who infer what was not drawn from how many rules were drawn once
    and twice. Where most are drawn once, the plain estimate falls short by far, and so does Miller
    and Madow's. The error is the jackknife's. NaN for fewer than two draws.
    """
    counts = Counter(Counter(keys).values())
    draws = sum(count * number for count, number in counts.items())
    distinct = sum(counts.values())
    if draws < 2:
        return RuleEntropy(math.nan, math.nan, draws, distinct)
    left_out = {count: _chao_wang_jost(_without(counts, count)) for count in counts}
    weights = {count: count * number for count, number in counts.items()}
    mean = math.fsum(weights[c] * left_out[c] for c in counts) / draws
    squares = math.fsum(weights[c] * (left_out[c] - mean) ** 2 for c in counts)
    error = math.sqrt(squares * (draws - 1) / draws)
    return RuleEntropy(_chao_wang_jost(counts), error, draws, distinct)


def _without(counts: Mapping[int, int], count: int) -> Counter[int]:
    """The counts after a draw is left out of a rule that was drawn ``count`` times."""
    rest = Counter(counts)
    rest[count] -= 1
    if count > 1:
        rest[count - 1] += 1
    return +rest


def _chao_wang_jost(counts: Mapping[int, int]) -> float:
    """From how many rules were drawn once, twice, ... (their equations 7 and 8)."""
    n = sum(count * number for count, number in counts.items())
    harmonic = _harmonic(n)
    seen = math.fsum(
        number * count / n * (harmonic[n - 1] - harmonic[count - 1])
        for count, number in counts.items()
        if count < n
    )
    once, twice = counts.get(1, 0), counts.get(2, 0)
    if not once or n < 2:
        return seen
    pairs = (2 * twice, once) if twice else (2, once - 1)
    share = pairs[0] / ((n - 1) * pairs[1] + pairs[0])
    return seen + once / n * _rest(share, n)


@functools.lru_cache(maxsize=2)  # all that are left out leave as many draws
def _harmonic(n: int) -> list[float]:
    """The sums of 1 / k over all k up to 0, 1, ..., n - 1."""
    return [0.0, *itertools.accumulate(1 / k for k in range(1, n))]


@functools.lru_cache(maxsize=64)  # mostly the same ones are drawn once and twice
def _rest(share: float, n: int) -> float:
    """The sum of (1 - share)^(j + 1) / (n + j) over all j from 0."""
    left = 1 - share
    if left <= 0:  # one rule alone was drawn once
        return 0.0
    if share * n < DIRECT:
        begun = math.fsum(left**r / r for r in range(1, n))
        return float(left ** (1 - n) * (-math.log(share) - begun))
    terms = range(math.ceil(ENOUGH / share))
    return math.fsum(left ** (j + 1) / (n + j) for j in terms)
