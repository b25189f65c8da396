"""The environment in which an optimizer works: what becomes of the gradients before it sees them.

002 sec. 7 proposes it and tries none: "scenarios where computations are only carried out using 4
bits, or a distributed setup where workers can only communicate a few bits of information to a
shared parameter server". Here both are about the gradients; weights and averages stay float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nos_repro.errors import ConfigError, unknown

ROUNDINGS = ("stochastic", "nearest")
MOST_BITS = 16


@dataclass(frozen=True)
class Environment:
    """What the optimizer is given in place of the gradient of the batch (`gradients`)."""

    bits: int | None = None
    """Bits for each number of a gradient, besides one float32 scale per tensor: whole multiples of
    the scale from -(2^(bits-1) - 1) to 2^(bits-1) - 1, the largest for the largest value. With 1
    bit, signs times the mean absolute value. None: the gradient as it is."""
    rounding: str = "stochastic"
    """`stochastic`: up or down at random, right on average (for 2 bits and more); or `nearest`."""
    workers: int = 1
    """Simulated workers: each has an equal part of the batch and sends a gradient of its own with
    `bits`; the optimizer gets the mean. Their batch norm sees their part alone."""
    error_feedback: bool = False
    """Each worker adds to its next gradient what rounding has lost of all earlier ones."""
    noise: float = 0.0
    """Normal noise on each worker's gradient before the rounding, its standard deviation relative
    to the root mean square of the tensor's gradient."""

    def __post_init__(self) -> None:
        where = "training.environment"
        if self.bits is not None and not 1 <= self.bits <= MOST_BITS:
            raise ConfigError(f"{where}.bits must be from 1 to {MOST_BITS}, got {self.bits}")
        if self.rounding not in ROUNDINGS:
            raise ConfigError(unknown(f"{where}.rounding", self.rounding, ROUNDINGS))
        if self.workers < 1:
            raise ConfigError(f"{where}.workers must be at least 1, got {self.workers}")
        if self.error_feedback and self.bits is None:
            raise ConfigError(f"{where}.error_feedback: nothing is lost without `bits`")
        if not 0 <= self.noise < math.inf:
            raise ConfigError(f"{where}.noise must not be negative, got {self.noise}")
