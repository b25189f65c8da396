"""What algorithms without a policy share: they remember the rules they met, and draw new ones.

Equal rules and rules that a probe refuses cost a search nothing, but teach it nothing either. So
a draw is repeated until its rule is neither, as in ENOS (Wang et al. 2022, "equivalent-form
detection" and "rejection sampling").
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from nos_repro.rules.rule import Rule
from nos_repro.rules.space import Space
from nos_repro.search.algorithms.base import Algorithm, ControllerSettings, Proposal
from nos_repro.search.equality import key_of
from nos_repro.search.sample import Sample, mixed


class Judge(Protocol):
    """What can be said of a string before any training."""

    def key(self, tokens: Sequence[str]) -> str:
        """The same for strings whose rules are equal."""

    def refused(self, tokens: Sequence[str]) -> bool:
        """Whether a probe finds that the rule cannot train."""


class ProbeJudge:
    """Judges as a search does, in milliseconds per rule, with every probe."""

    def key(self, tokens: Sequence[str]) -> str:
        return _key(tuple(tokens))

    def refused(self, tokens: Sequence[str]) -> bool:
        return _refused(_key(tuple(tokens)), tuple(tokens))


@functools.lru_cache(maxsize=2**17)
def _key(tokens: tuple[str, ...]) -> str:
    return key_of(Rule.from_tokens(tokens))[0]


_REFUSED: dict[str, bool] = {}


def _refused(key: str, tokens: tuple[str, ...]) -> bool:
    from nos_repro.search.probe import probe

    if key not in _REFUSED:
        _REFUSED[key] = probe(Rule.from_tokens(tokens)) is not None
    return _REFUSED[key]


class DrawingAlgorithm(Algorithm):
    """Proposes the first of its draws whose rule is new and which no probe refuses.

    ``judge`` may be replaced before the first sample, by a table's that looks both up.
    """

    def __init__(
        self, space: Space, settings: Any, *, seed: int, controller: ControllerSettings
    ) -> None:
        super().__init__(space, settings, seed=seed, controller=controller)
        self.judge: Judge = ProbeJudge()
        self.met: set[str] = set()
        """The keys of all rules with a reward."""

    def source(self, number: int) -> random.Random:
        """The random numbers of a sample's draws."""
        return random.Random(mixed(self.seed, number))

    def first_new(self, draws: Iterable[list[str]], open: Mapping[int, Sample]) -> Proposal:
        """The first draw whose rule has no reward yet, does not wait for one, and is not refused;
        the last draw where none is."""
        waiting = {self.judge.key(sample.tokens) for sample in open.values()}
        tokens: list[str] = []
        for tokens in draws:
            key = self.judge.key(tokens)
            if key not in self.met and key not in waiting and not self.judge.refused(tokens):
                break
        return Proposal(tokens, [])

    def learn(self, sample: Sample, reward: float) -> dict[str, float] | None:
        """Remembers the rule. There is no policy that an update could change."""
        self.met.add(self.judge.key(sample.tokens))
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"met": sorted(self.met)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.met = set(state["met"])
