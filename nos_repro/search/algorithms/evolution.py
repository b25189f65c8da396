"""Regularised evolution (Real et al. 2019), as in the search for Lion (Chen et al. 2023).

The population is the last samples that got a reward, so the oldest one dies, not the worst. A
child is a mutation of the best of a few that are drawn from the population. Nothing waits for a
generation: any number of workers may be under way.

*Departures*: a mutation is repeated until its rule is new; Chen et al. reuse the reward of equal
programs instead. A warm start fills the population with mutations of the given rules.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

from nos_repro.errors import ConfigError
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import Space
from nos_repro.rules.tokens import GROUP, computed
from nos_repro.search.algorithms.base import (
    ALGORITHMS,
    AlgorithmSettings,
    ControllerSettings,
    Proposal,
    require,
)
from nos_repro.search.algorithms.drawing import DrawingAlgorithm
from nos_repro.search.sample import Sample


@dataclass(frozen=True)
class EvolutionSettings(AlgorithmSettings):
    """The sizes were chosen on the arena's tuning table: small and greedy finds good rules within
    hundreds of children."""

    population: int = 20
    """The last samples with a reward, among which parents are chosen; the first as many are drawn
    at random."""
    tournament: int = 10
    """How many of the population are drawn for each child; the best of them is its parent."""
    iteration_share: float = 0.2
    """Share of mutations that draw all five tokens of an iteration again; the others change one
    token."""
    tries: int = 30
    """Mutations to try, until one makes a rule that is new and not refused. 1: the first one is
    proposed, whatever it is."""
    start: list[str] = field(default_factory=list)
    """Rules to start from, as text: they come first, and mutations of them instead of random rules
    fill the population."""

    def __post_init__(self) -> None:
        require(self.population >= 1, "population", "at least 1", self.population)
        sizes = f"between 1 and the population ({self.population})"
        require(1 <= self.tournament <= self.population, "tournament", sizes, self.tournament)
        share = self.iteration_share
        require(0 <= share <= 1, "iteration_share", "between 0 and 1", share)
        require(self.tries >= 1, "tries", "at least 1", self.tries)


@ALGORITHMS.register("evolution")
class Evolution(DrawingAlgorithm):
    """Mutates the best of a random few of the youngest samples."""

    Settings: ClassVar[type[Any]] = EvolutionSettings

    def __init__(
        self, space: Space, settings: Any, *, seed: int, controller: ControllerSettings
    ) -> None:
        super().__init__(space, settings, seed=seed, controller=controller)
        self.population: deque[tuple[list[str], float]] = deque(maxlen=settings.population)
        self.start = [written(space, Rule.parse(text, space.language)) for text in settings.start]

    def propose(self, number: int, open: Mapping[int, Sample]) -> Proposal:
        if number < len(self.start):
            return Proposal(self.start[number], [])
        return self.first_new(self._draws(self.source(number)), open)

    def _draws(self, source: random.Random) -> Iterator[list[str]]:
        young = len(self.population) < self.settings.population
        for _ in range(self.settings.tries):
            if young and not self.start:
                yield self.space.sample(source)
                continue
            parent = source.choice(self.start) if young else self._parent(source)
            yield mutated(self.space, parent, source, self.settings.iteration_share)

    def _parent(self, source: random.Random) -> list[str]:
        drawn = source.sample(range(len(self.population)), self.settings.tournament)
        return max((self.population[place] for place in drawn), key=lambda each: each[1])[0]

    def learn(self, sample: Sample, reward: float) -> dict[str, float] | None:
        self.population.append((sample.tokens, reward))
        return super().learn(sample, reward)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "population": list(self.population)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.population.clear()
        self.population.extend((list(tokens), reward) for tokens, reward in state["population"])


def mutated(
    space: Space, tokens: Sequence[str], source: random.Random, iteration_share: float
) -> list[str]:
    """Another string of the space: an iteration drawn again, or one token changed. It is the same
    string only where the space leaves no choice."""
    if source.random() < iteration_share:
        start = len(GROUP) * source.randrange(space.iterations)
        end = start + len(GROUP)
        return [*space.sample(source, tokens[:start])[:end], *tokens[end:]]
    positions = list(range(space.length))
    source.shuffle(positions)
    for position in positions:
        others = _others(space, tokens, position)
        if others:
            return [*tokens[:position], source.choice(others), *tokens[position + 1 :]]
    return list(tokens)


def _others(space: Space, tokens: Sequence[str], position: int) -> list[str]:
    """The other words that the masks allow here, given the tokens before and after."""
    mask = zip(space.choices(position), space.allowed(tokens[:position]), strict=True)
    words = [word for word, may in mask if may and word != tokens[position]]
    after = position + 1
    if after == space.length:
        return words
    place = space.choices(after).index(tokens[after])
    return [word for word in words if space.allowed([*tokens[:position], word])[place]]


def written(space: Space, rule: Rule) -> list[str]:
    """A string of the space that writes the rule, or one equal to it. Where the rule needs fewer
    iterations than the space has, the others do nothing. Raises ConfigError if there is none."""
    tokens = rule.tokens()
    if tokens is not None:
        for iteration in range(len(tokens) // len(GROUP), space.iterations):
            tokens += [computed(iteration), "g", "identity", "identity", "keep_left"]
        for spelling in _spellings(space, tokens, rule.fingerprint()):
            if space.contains(spelling):
                return spelling
    raise ConfigError(f"algorithm.start: no string of this space writes '{rule}'")


def _spellings(space: Space, tokens: list[str], key: str, start: int = 0) -> Iterator[list[str]]:
    """The ways to spell iterations that keep their left operand: with any right one, and any
    function that gives the same rule."""
    if start == len(tokens):
        yield tokens
        return
    end = start + len(GROUP)
    if tokens[end - 1] != "keep_left":
        yield from _spellings(space, tokens, key, end)
        return
    for binary, other in product(reversed(space.binary), space.choices(start + 1)):
        changed = [tokens[start], other, tokens[start + 2], "identity", binary]
        spelling = [*tokens[:start], *changed, *tokens[end:]]
        if Rule.from_tokens(spelling).fingerprint() == key:
            yield from _spellings(space, spelling, key, end)
