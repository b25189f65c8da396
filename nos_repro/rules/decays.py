"""The decay operands (sec. 4.1) as functions of the step.

The first update is step 0 and sees f(0) = 1. Past the last step the decays stay at f(T).
"""

import math

from nos_repro.rules.primitives import ANNEALED_NOISE_POWER, PERIODIC_DECAY


def decay(name: str, step: int, total_steps: int) -> float:
    """f(t) of `ld`, `cd`, `cd{n}` or `rd{n}`; KeyError for other names.

    `rd{n}` restarts at t = T as well, where it is 1 and not 0 (the authors' TensorFlow code).
    """
    s = min(step, total_steps)
    if name == "ld":
        return 1 - s / total_steps
    if name == "cd":
        return 0.5 * (1 + math.cos(math.pi * s / total_steps))
    match = PERIODIC_DECAY.fullmatch(name)
    if match is None:
        raise KeyError(name)
    n = int(match[2])
    if match[1] == "cd":
        return 0.5 * (1 + math.cos(2 * math.pi * n * s / total_steps))
    return 0.5 * (1 + math.cos(math.pi * ((s * n) % total_steps) / total_steps))


def annealed_noise_std(step: int) -> float:
    """The standard deviation of `annealed_noise` at a step: its variance is 1 / (1 + t)^0.55."""
    return float((1 + step) ** (-ANNEALED_NOISE_POWER / 2))
