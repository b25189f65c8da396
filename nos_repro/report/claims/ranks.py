"""Whether one order of things predicts another: Spearman's rank correlation and what it proves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nos_repro.report.claims.evidence import Effect
from nos_repro.report.distributions import normal_below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT = 7
"""With at most this many things, all orders are tried."""
DRAWS, SEED = 20_000, 2017
USEFUL = 0.5
"""A correlation that is shown to lie below this predicts nothing worth the name."""


def predicts(what: str, early: Sequence[float], late: Sequence[float]) -> Effect:
    """Spearman's correlation with Fisher's interval. For: the one-sided permutation test against
    none; against: Fisher's z against USEFUL."""
    n = len(early)
    mine, its = rankdata(early), rankdata(late)
    if n < 4 or len(set(mine)) == 1 or len(set(its)) == 1:
        return Effect(what, math.nan, math.nan, math.nan, n, "rank correlation")
    rho = correlation(mine, its)
    error = 1.03 / math.sqrt(n - 3)  # Fieller's, for Spearman's coefficient
    z = math.atanh(min(max(rho, -0.999999), 0.999999))
    low, high = (math.tanh(z + side * 1.96 * error) for side in (-1, 1))
    p_against = normal_below((z - math.atanh(USEFUL)) / error)
    p_for = float((permuted(mine, its) >= rho - 1e-12).mean())
    return Effect(what, rho, low, high, n, "rank correlation", p_for, p_against)


def rankdata(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    import numpy as np

    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return ((2 * last - count + 1) / 2)[place]


def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    import numpy as np

    return float(np.corrcoef(one, other)[0, 1])


def permuted(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The correlation in every order of the other's ranks, or in many."""
    import numpy as np

    n = len(one)
    if n <= EXACT:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        source = np.random.default_rng(SEED)
        orders = source.permuted(np.tile(np.arange(n), (DRAWS, 1)), axis=1)
    a, b = (one - one.mean()) / one.std(), (other - other.mean()) / other.std()
    return (b[orders] @ a) / n  # type: ignore[no-any-return]
