"""The race of a search's best rules: fresh seeds tell apart what one seed cannot.

The best of many is partly lucky, and the seed's noise hides the order at the top. So the best rules
are trained again with fresh seeds, and after each seed the weaker ones drop out: successive halving
(Jamieson & Talwalkar 2016) over seeds. A rule's place is by the mean of its rewards in the race
alone; the reward that brought it there does not count.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nos_repro.errors import ConfigError

FIRST_SEED = 1000
"""Seeds of a race are this much above the search's, apart from those that confirm its winner."""
LEFT = 2
"""Rules that stay to the end, if so many began."""

Rewards = Mapping[int, float]
"""A rule's rewards in the race, by seed."""


@dataclass(frozen=True)
class Race:
    """The best rules are trained again with fresh seeds, and the weaker ones drop out."""

    best: int = 20
    """How many of the best rules take part."""
    seeds: int = 5
    """Fresh seeds for those that stay to the end."""
    everyone: int = 2
    """Seeds for everyone, before any rule drops out."""
    keep: float = 0.5
    """The share of the rules that stay after each further seed."""

    def __post_init__(self) -> None:
        for key in ("best", "seeds", "everyone"):
            if getattr(self, key) < 1:
                raise ConfigError(f"race.{key} must be at least 1, got {getattr(self, key)}")
        if self.everyone > self.seeds:
            raise ConfigError(
                f"race.everyone must be at most race.seeds ({self.seeds}), got {self.everyone}"
            )
        if not 0 < self.keep <= 1:
            raise ConfigError(f"race.keep must be in (0, 1], got {self.keep}")

    @property
    def children(self) -> int:
        """How many children it trains."""
        running, total = self.best, self.best * self.everyone
        for _ in range(self.everyone, self.seeds):
            running = min(running, self.stay(running))
            total += running
        return total

    def stay(self, running: int) -> int:
        """How many of those that are running stay after a seed."""
        return max(LEFT, math.ceil(self.keep * running))


@dataclass(frozen=True)
class Lap:
    """What a race needs next: these runners with these seeds. Without any, ``order`` is its result,
    the winner first."""

    order: list[str]
    missing: list[tuple[str, int]]


def next_lap(race: Race, runners: Sequence[str], rewards: Mapping[str, Rewards], seed: int) -> Lap:
    """Where a race of ``runners``, in the order of their rewards in the search, stands by their
    ``rewards`` in the race. ``seed`` is the search's. It depends on nothing else."""
    seeds = [seed + FIRST_SEED + n for n in range(race.seeds)]
    running, out = list(runners), list[str]()
    for ran in range(race.everyone, race.seeds + 1):
        asked = seeds[:ran]
        missing = [(one, s) for s in asked for one in running if s not in rewards.get(one, {})]
        if missing:
            return Lap([*running, *out], missing)
        means = {one: statistics.fmean(rewards[one][s] for s in asked) for one in running}
        running.sort(key=lambda one: -means[one])
        if ran < race.seeds:
            stay = race.stay(len(running))
            running, out = running[:stay], [*running[stay:], *out]
    return Lap([*running, *out], [])
