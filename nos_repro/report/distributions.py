"""Probabilities of Student's t, of a normal value and of coins, to about ten digits.

A report needs no more of scipy, whose import takes longer than the report's own work.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

PRECISION = 1e-15
TINY = 1e-300


def normal_below(z: float) -> float:
    """The probability of a standard normal value to lie below ``z``."""
    return math.erfc(-z / math.sqrt(2)) / 2


def heads_at_most(k: int, n: int) -> float:
    """The probability of at most ``k`` heads in ``n`` tosses of a fair coin."""
    return sum(math.comb(n, i) for i in range(min(k, n) + 1)) / (1 << n)


def share_interval(count: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a probability that has shown ``count`` times in ``of`` (Clopper &
    Pearson 1934)."""
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else _beta_quantile(tail, count, of - count + 1)
    high = 1.0 if count == of else _beta_quantile(1 - tail, count + 1, of - count)
    return low, high


def _beta_quantile(share: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        below = incomplete_beta(middle, 1 - middle, a, b) < share
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def student_above(t: float, degrees: float) -> float:
    """The probability of Student's t to lie at ``t`` or above; NaN if either is NaN."""
    if math.isnan(t) or math.isnan(degrees):
        return math.nan
    half = _outside(abs(t), degrees) / 2
    return half if t > 0 else 1 - half


@functools.cache
def student_within(share: float, degrees: float) -> float:
    """The t that ``share`` of Student's distribution lies within, on either side of 0.

    By Newton's method from the normal distribution's, which is smaller: what lies outside is convex
    in t, so that no step goes too far.
    """
    t = NormalDist().inv_cdf((1 + share) / 2)
    log_density = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    log_density -= math.log(degrees * math.pi) / 2
    for _ in range(100):
        density = math.exp(log_density - (degrees + 1) / 2 * math.log1p(t * t / degrees))
        step = (_outside(t, degrees) - (1 - share)) / (2 * density)
        t += step
        if abs(step) <= PRECISION * t:
            break
    return t


def _outside(t: float, degrees: float) -> float:
    """The probability of Student's |t| above ``t``, at least 0."""
    whole = degrees + t * t
    return incomplete_beta(degrees / whole, t * t / whole, degrees / 2, 0.5)


def incomplete_beta(x: float, y: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), with y = 1 - x (Abramowitz & Stegun,
    26.5.8)."""
    if x == 0 or y == 0:
        return float(y == 0)
    if x > (a + 1) / (a + b + 2):  # there the fraction converges slowly
        return 1 - incomplete_beta(y, x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log(y)
    return math.exp(log_front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, evaluated forwards (Lentz)."""
    upper, lower = 1.0, _nonzero(1 - (a + b) * x / (a + 1))
    lower = 1 / lower
    value = lower
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            lower = 1 / _nonzero(1 + term * lower)
            upper = _nonzero(1 + term / upper)
            value *= upper * lower
        if abs(upper * lower - 1) < PRECISION:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > TINY else TINY
