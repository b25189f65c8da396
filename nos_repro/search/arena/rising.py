"""Whether the rewards of a run rise, in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

QUARTERS = 4
BEST = 0.1
"""Share of the rewards that are the best ones."""


def ends(rewards: Sequence[float]) -> list[float] | None:
    """The means of the first and of the last quarter; None of fewer rewards than quarters."""
    quarter = len(rewards) // QUARTERS
    if not quarter:
        return None
    return [round(fmean(part), 6) for part in (rewards[:quarter], rewards[-quarter:])]


def place_of_best(rewards: Sequence[float]) -> float | None:
    """How far along the best tenth come on average (0: first, 1: last; in random order 1/2); of
    equal rewards at the bound, all count as best. None without rewards."""
    if not rewards:
        return None
    bound = sorted(rewards, reverse=True)[max(1, round(len(rewards) * BEST)) - 1]
    places = (at + 0.5 for at, reward in enumerate(rewards) if reward >= bound)
    return round(fmean(places) / len(rewards), 6)
