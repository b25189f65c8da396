"""The course of a search as lines: moving averages and quantiles of its rewards, and their colours.

The figure of a report and the chart of a page draw the same lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUANTILES = (0.25, 0.5, 0.75, 0.9)
POINTS = 400
"""The most points in a line: more cannot be seen."""
SMALLEST_WINDOW, LARGEST_WINDOW = 10, 500
MEAN, BEST, BASELINE, QUANTILE = "#000000", "#D55E00", "#009E73", "#0072B2"
FRESH = "#AA3377"
# fmt: off
STATUSES = {
    "healthy":           ("#0072B2", ("healthy",)),
    "stopped early":     ("#56B4E9", ("stopped",)),
    "reused":            ("#CC79A7", ("reused",)),
    "refused":           ("#999999", ("refused",)),
    "diverged":          ("#E69F00", ("diverged",)),
    "overran or failed": ("#D55E00", ("overran", "failed")),
}
# fmt: on


def line_points(count: int) -> Ints:
    """Which of ``count`` samples make a line."""
    numbers: Ints = np.unique(np.linspace(0, count - 1, POINTS).astype(int))
    return numbers


def window_of(count: int) -> int:
    """How many samples a moving average covers: a twentieth of them, within limits."""
    return max(SMALLEST_WINDOW, min(LARGEST_WINDOW, count // 20))


def moving_average(values: Floats, window: int) -> Floats:
    """The mean of the last ``window`` values, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    averages: Floats = (sums[ends] - sums[starts]) / (ends - starts)
    return averages


def moving_quantiles(values: Floats, window: int, ends: Ints) -> Floats:
    """QUANTILES of the last ``window`` values at each of ``ends``, as [ends, quantiles]."""
    rows = [np.quantile(values[max(0, end + 1 - window) : end + 1], QUANTILES) for end in ends]
    return np.array(rows)
