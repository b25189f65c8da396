"""Student's t, for numbers and for arrays of them. `scipy.special` alone: the whole of
`scipy.stats` takes longer to import than a report to print."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
"""Of every interval."""


def quantile(degrees: Any, level: float = LEVEL) -> Any:
    """So far from 0 lies, at most, a share ``level`` of Student's t; NaN below one degree."""
    degrees = np.asarray(degrees, dtype=float)
    safe = np.where(degrees >= 1, degrees, np.nan)
    return stdtrit(safe, 0.5 + level / 2)[()]


def above(t: Any, degrees: Any) -> Any:
    """The probability of Student's t to lie at ``t`` or above."""
    return stdtr(degrees, np.negative(t))[()]
