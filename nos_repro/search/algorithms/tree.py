"""Monte Carlo tree search over the tokens, in the manner of ENOS (Wang et al. 2022).

Each prefix of a string is a node. A draw walks down from the root, at each node to the child with
the best score and exploration bonus; below the tree it goes on uniformly. As in ENOS, a node is
scored by the mean of its best few rewards, since the maximum counts and most rules are bad, and a
draw whose rule is known or refused is rejected.

*Departures*: ENOS walks a tree of expressions, level by level; this walks the tokens, and deepens
its tree by one node per sample (Kocsis & Szepesvari 2006). Rewards count by the share of earlier
rewards that they exceed, so that no scale has to be set.
"""

from __future__ import annotations

import bisect
import heapq
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nos_repro.rules.space import Space
from nos_repro.search.algorithms.base import (
    ALGORITHMS,
    AlgorithmSettings,
    ControllerSettings,
    Proposal,
    require,
)
from nos_repro.search.algorithms.drawing import DrawingAlgorithm
from nos_repro.search.sample import Sample

Prefix = tuple[str, ...]


@dataclass(frozen=True)
class TreeSettings(AlgorithmSettings):
    """How the tree is walked."""

    best: int = 3
    """A node's score is the mean of this many of its best rewards."""
    exploration: float = 0.3
    """Weight of the bonus for nodes that were visited little: of sqrt(log(parent's) / own)."""
    tries: int = 30
    """Walks to try, until one leads to a rule that is new and not refused; if all of them fail, as
    many uniform draws follow."""

    def __post_init__(self) -> None:
        require(self.best >= 1, "best", "at least 1", self.best)
        require(self.exploration >= 0, "exploration", "at least 0", self.exploration)
        require(self.tries >= 1, "tries", "at least 1", self.tries)


@ALGORITHMS.register("tree")
class TreeSearch(DrawingAlgorithm):
    """Walks to the prefixes whose best rules were good."""

    Settings: ClassVar[type[Any]] = TreeSettings

    def __init__(
        self, space: Space, settings: Any, *, seed: int, controller: ControllerSettings
    ) -> None:
        super().__init__(space, settings, seed=seed, controller=controller)
        self.visits: Counter[Prefix] = Counter()
        self.best: dict[Prefix, list[float]] = {}
        """For every node of the tree, its best rewards, as a heap."""
        self.rewards: list[float] = []
        """All rewards, sorted."""
        self._allowed: dict[tuple[int, Prefix], list[str]] = {}

    def propose(self, number: int, open: Mapping[int, Sample]) -> Proposal:
        return self.first_new(self._draws(self.source(number), open), open)

    def _draws(self, source: random.Random, open: Mapping[int, Sample]) -> Iterator[list[str]]:
        """Walks, then uniform draws where all of these were rejected. A rejected walk, and a sample
        that waits for its reward, count as visits that led to nothing: a part of the tree that is
        used up is left, its deepest nodes first."""
        vain: Counter[Prefix] = Counter()
        for sample in open.values():
            vain.update(_prefixes(sample.tokens))
        for _ in range(self.settings.tries):
            tokens = self._walk(source, vain)
            yield tokens
            vain.update(_prefixes(tokens))
        for _ in range(self.settings.tries):
            yield self.space.sample(source)

    def _walk(self, source: random.Random, vain: Counter[Prefix]) -> list[str]:
        node: Prefix = ()
        while len(node) < self.space.length and node in self.best:
            children = [(*node, word) for word in self._words(node)]
            tried = [self.visits[child] + vain[child] for child in children]
            new = [child for child, visits in zip(children, tried, strict=True) if not visits]
            if new:
                node = source.choice(new)
                continue
            log = math.log(sum(tried))
            worths = [
                self._score(child) * self.visits[child] / visits
                + self.settings.exploration * math.sqrt(log / visits)
                for child, visits in zip(children, tried, strict=True)
            ]
            node = children[worths.index(max(worths))]
        return self.space.sample(source, node)

    def _words(self, node: Prefix) -> list[str]:
        """What may follow: it depends on the position and the last word alone."""
        key = len(node), node[-1:]
        if key not in self._allowed:
            mask = zip(self.space.choices(len(node)), self.space.allowed(node), strict=True)
            self._allowed[key] = [word for word, may in mask if may]
        return self._allowed[key]

    def _score(self, node: Prefix) -> float:
        """The mean share of all rewards that are below the node's best ones."""
        best = self.best.get(node, [])
        below = sum(bisect.bisect_left(self.rewards, reward) for reward in best)
        return below / max(1, len(best)) / len(self.rewards)

    def learn(self, sample: Sample, reward: float) -> dict[str, float] | None:
        bisect.insort(self.rewards, reward)
        for node in _prefixes(sample.tokens):
            self.visits[node] += 1
            known = self.best.setdefault(node, [])
            if len(known) < self.settings.best:
                heapq.heappush(known, reward)
            else:
                heapq.heappushpop(known, reward)
            if self.visits[node] == 1:
                break
        return super().learn(sample, reward)

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "visits": dict(self.visits),
            "best": self.best,
            "rewards": self.rewards,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.visits = Counter(state["visits"])
        self.best = {node: list(rewards) for node, rewards in state["best"].items()}
        self.rewards = list(state["rewards"])


def _prefixes(tokens: Sequence[str]) -> Iterator[Prefix]:
    """From the root to the whole string."""
    return (tuple(tokens[:length]) for length in range(len(tokens) + 1))
