"""The decay operands (sec. 4.1) as functions of the elapsed steps, 0 to total_steps.

The first update is step 0 and sees f(0) = 1.
"""

import math
from collections.abc import Callable

ANNEALED_NOISE_POWER = 0.55


def linear(step: int, total_steps: int) -> float:
    """`ld`."""
    return 1 - step / total_steps


def cosine(step: int, total_steps: int) -> float:
    """`cd`: half a period."""
    return 0.5 * (1 + math.cos(math.pi * step / total_steps))


def cyclical(n: int) -> Callable[[int, int], float]:
    """`cd{n}`: n periods."""
    return lambda step, total: 0.5 * (1 + math.cos(2 * math.pi * n * step / total))


def restart(n: int) -> Callable[[int, int], float]:
    """`rd{n}`: n half periods, each from 1 to 0.

    It also restarts at t = T: there it is 1, not 0, as in the authors' TensorFlow code.
    """
    return lambda step, total: 0.5 * (1 + math.cos(math.pi * ((step * n) % total) / total))


def annealed_noise_std(step: int) -> float:
    """The standard deviation of `annealed_noise` at a step: its variance is 1 / (1 + t)^0.55.

    The step may be a tensor; then so is the result.
    """
    std: float = (1 + step) ** (-ANNEALED_NOISE_POWER / 2)
    return std
