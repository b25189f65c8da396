"""torch's functions on Python's floats: infinite or NaN where `math` raises."""

from __future__ import annotations

import math
from collections.abc import Sequence

MATRIX_COLUMNS = 8
"""Of a matrix whose elements are given in one row."""


def exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def log(x: float) -> float:
    """log|x|."""
    return math.log(abs(x)) if x else -math.inf


def sqrt(x: float) -> float:
    """sqrt|x|."""
    return math.sqrt(abs(x))


def sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def clip(x: float, bound: float) -> float:
    return min(max(x, -bound), bound)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def divide(x: float, y: float) -> float:
    if y:
        return x / y
    return x * math.copysign(math.inf, y)


def power(x: float, y: float) -> float:
    try:
        return math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0 and y % 2 == 1 else math.inf
    except ValueError:  # a negative power of 0, or a fractional one of a negative number
        return math.copysign(math.inf, x if y % 2 == 1 else 1.0) if x == 0 else math.nan


def maximum(x: float, y: float) -> float:
    return math.nan if math.isnan(x) or math.isnan(y) else max(x, y)


def minimum(x: float, y: float) -> float:
    return math.nan if math.isnan(x) or math.isnan(y) else min(x, y)


def mean(row: Sequence[float]) -> list[float]:
    return [_sum(row) / len(row)] * len(row)


def norm(row: Sequence[float]) -> list[float]:
    return [math.hypot(*row)] * len(row)


def orthogonal(row: Sequence[float]) -> list[float]:
    """`newton_schulz.orthogonal` in double precision, of a matrix that is not taller than wide."""
    length = max(math.hypot(*row), 1e-7)
    columns = MATRIX_COLUMNS
    x = [[value / length for value in row[at : at + columns]] for at in range(0, len(row), columns)]
    for _ in range(5):
        gram = [[_dot(a, b) for b in x] for a in x]
        by = [
            [-4.7750 * gram[i][j] + 2.0315 * _dot(gram[i], gram[j]) for j in range(len(x))]
            for i in range(len(x))
        ]
        turned = list(zip(*x, strict=True))
        x = [[3.4445 * x[i][k] + _dot(by[i], turned[k]) for k in range(columns)]
             for i in range(len(x))]  # fmt: skip
    return [value for each in x for value in each]


def _dot(x: Sequence[float], y: Sequence[float]) -> float:
    return _sum([a * b for a, b in zip(x, y, strict=True)])


def _sum(values: Sequence[float]) -> float:
    """Infinite or NaN where `fsum` raises."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)
