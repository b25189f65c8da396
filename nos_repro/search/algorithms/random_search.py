"""No learning at all: strings drawn uniformly from the space.

Every algorithm has to beat this.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from nos_repro.search.algorithms.base import ALGORITHMS, Algorithm, Proposal
from nos_repro.search.sample import Sample, mixed


@ALGORITHMS.register("random")
class RandomSearch(Algorithm):
    """Each string of the space is equally likely."""

    def propose(self, number: int, open: Mapping[int, Sample]) -> Proposal:
        return Proposal(self.space.sample(random.Random(mixed(self.seed, number))), [])

    def learn(self, sample: Sample, reward: float) -> dict[str, float] | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
