"""How well one column of rewards orders rules as another does, and how much of it is luck.

Intervals are percentile bootstraps over rules, at 95 %, with fixed draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Values: TypeAlias = "np.ndarray"

RESAMPLES = 500
MOST_RULES = 1500
"""Kendall's tau looks at every pair of rules; of more rules, this many are drawn."""
LEVELS = (0.025, 0.975)
SEED = 2017


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, over ``n`` rules; NaN where there are too few."""

    value: float
    low: float
    high: float
    n: int


def kendall(x: Values, y: Values) -> Estimate:
    """Kendall's tau-b of two columns [rules]: 1 where they order all rules alike, 0 where one says
    nothing of the other; ties count for neither (Kendall, 1945).

    In a resample a rule may come several times, and its copies are ties; so the tau of every
    resample follows from one matrix of signs and the rules' multiplicities.
    """
    if len(x) > MOST_RULES:
        drawn = np.random.default_rng(SEED).permutation(len(x))[:MOST_RULES]
        x, y = x[drawn], y[drawn]
    n = len(x)
    if n < 3:
        return Estimate(math.nan, math.nan, math.nan, n)
    signs_x = np.sign(x[:, None] - x[None, :]).astype(np.float32)
    signs_y = np.sign(y[:, None] - y[None, :]).astype(np.float32)
    matrices = (signs_x * signs_y, np.abs(signs_x), np.abs(signs_y))

    def tau(weights: Values) -> Values:
        same, of_x, of_y = (
            ((weights @ matrix) * weights).sum(1, dtype=np.float64) for matrix in matrices
        )
        return _divided(same, np.sqrt(of_x * of_y))

    value = float(tau(np.ones((1, n), np.float32))[0])
    return Estimate(value, *_interval(tau(_weights(n))), n)


def luck(rewards: Values) -> Estimate:
    """The share of a reward's variance that is the seed's luck, of rewards [rules, seeds].

    A reward is the rule's own value, plus what the seed does to all rules alike, which changes
    nothing between them and is left out, plus luck. The share is 1 less the intraclass correlation
    ICC(3, 1) of Shrout and Fleiss (1979).
    """
    n, seeds = rewards.shape
    if n < 3 or seeds < 2:
        return Estimate(math.nan, math.nan, math.nan, n)
    within = _without_seeds(rewards).var(axis=1, ddof=1)
    means = rewards.mean(axis=1)

    def share(weights: Values) -> Values:
        total = weights.sum(1)
        noise = weights @ within / (total - 1)
        centre = weights @ means / total
        between = (weights @ means**2 / total - centre**2) * total / (total - 1)
        signal = np.maximum(between - noise / seeds, 0.0)
        return _divided(noise, signal + noise)

    value = float(share(np.ones((1, n)))[0])
    return Estimate(value, *_interval(share(_weights(n).astype(np.float64))), n)


def luck_deviation(rewards: Values) -> float:
    """The standard deviation of a rule's reward over seeds, of rewards [rules, seeds], without what
    a seed does to all rules alike."""
    n, seeds = rewards.shape
    if seeds < 2 or n < 2:
        return math.nan
    return float(np.sqrt(_without_seeds(rewards).var(axis=1, ddof=1).sum() / (n - 1)))


def _without_seeds(rewards: Values) -> Values:
    centred: Values = rewards - rewards.mean(axis=0)
    return centred


@dataclass(frozen=True)
class Regret:
    """The best rule by one seed, judged by the others: means over which seed chooses.

    ``chosen_by``: its reward by the seed that chose it; ``judged``: by the others; ``best``: the
    best that the others know, which is itself lucky, so that ``regret`` is at most this.
    """

    chosen_by: float
    judged: float
    best: float

    @property
    def regret(self) -> float:
        return self.best - self.judged


def regret(rewards: Values, choosers: Sequence[int] | None = None) -> Regret | None:
    """The regret of choosing by one seed, of rewards [rules, seeds]; ``choosers`` are the columns
    that choose (default: each in turn). None for one seed."""
    if rewards.shape[1] < 2 or not len(rewards):
        return None
    found = []
    for seed in range(rewards.shape[1]) if choosers is None else choosers:
        others = np.delete(rewards, seed, axis=1).mean(axis=1)
        best = int(rewards[:, seed].argmax())
        found.append((rewards[best, seed], others[best], others.max()))
    return Regret(*(float(value) for value in np.mean(found, axis=0)))


def best_quarter(values: Values) -> Values:
    """Which rules are among the best quarter: [rules] of truth values, ties with the last in."""
    return values >= np.quantile(values, 0.75) if len(values) else np.zeros(0, bool)


def _divided(above: Values, below: Values) -> Values:
    """The quotients; NaN where the divisor is 0."""
    found: Values = np.full(below.shape, math.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


def _weights(n: int) -> Values:
    """How often each rule comes in every resample: [resamples, rules]."""
    source = np.random.default_rng(SEED)
    return source.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float32)


def _interval(values: Values) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, LEVELS)
    return float(low), float(high)
