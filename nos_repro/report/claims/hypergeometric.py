"""Whether what some rules hold is over-represented among the best of them: exact tails."""

from __future__ import annotations

import math

from nos_repro.errors import ConfigError

ODDS = 2.0
"""A part that is over-represented among the best raises the odds at least so much."""


def check_best(best: float) -> None:
    """Raises ConfigError unless ``best`` is a number of rules or a share of them."""
    if not best > 0:
        raise ConfigError(f"best: a number of rules, or below 1 their share, got {best:g}")


def best_of(best: float, rules: int) -> int:
    """How many of so many rules are the best: ``best``, or below 1 that share of them."""
    return math.ceil(best * rules) if best < 1 else int(best)


def enrichment(seen: int, best: int, have: int, total: int) -> float:
    """The chance that ``seen`` of the ``best``, or more, have what ``have`` of ``total`` have if
    they are drawn blindly (hypergeometric)."""
    return _tail(range(seen, min(have, best) + 1), best, have, total, 1.0)


def depletion(seen: int, best: int, have: int, total: int, odds: float) -> float:
    """The chance that ``seen`` of the ``best``, or fewer, have it if it multiplies the odds of
    being among them by ``odds`` (Fisher's noncentral hypergeometric distribution)."""
    return _tail(range(seen + 1), best, have, total, odds)


def _tail(counts: range, best: int, have: int, total: int, odds: float) -> float:
    """The chance that one of ``counts`` of the ``best`` have it."""
    possible = range(max(0, best - (total - have)), min(have, best) + 1)
    logs = {
        k: _log_ways(have, k) + _log_ways(total - have, best - k) + k * math.log(odds)
        for k in possible
    }
    top = max(logs.values())
    weights = {k: math.exp(log - top) for k, log in logs.items()}
    return math.fsum(weights.get(k, 0.0) for k in counts) / math.fsum(weights.values())


def _log_ways(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
