"""A string that a search has drawn, and the seed of its draw."""

from __future__ import annotations

from dataclasses import dataclass

from nos_repro.rules.rule import Rule

DIGITS = 6
"""Log-probabilities are rounded when drawn, so that the log holds exactly what was used."""


@dataclass(frozen=True)
class Sample:
    """A string of a search: its number, the updates before it, its words, and their
    log-probabilities when drawn (none if the algorithm has no policy)."""

    number: int
    policy: int
    tokens: list[str]
    log_probs: list[float]

    @property
    def rule(self) -> Rule:
        return Rule.from_tokens(self.tokens)


def mixed(seed: int, number: int) -> int:
    """One seed per (seed, number), by SplitMix64's mixing, so that nearby pairs differ widely."""
    x = (seed * 0x9E3779B97F4A7C15 + number + 1) & (2**64 - 1)
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
    return (x ^ (x >> 31)) & (2**63 - 1)
