"""torch's functions on Python's floats: infinite or NaN where `math` raises."""

from __future__ import annotations

import math


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
