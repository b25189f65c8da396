"""A search algorithm: raises the probability of the best string of each batch.

algorithm: {name: my_package.climb, lr: 0.01}
"""

from dataclasses import dataclass

from torch import Tensor

from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.algorithms.policy_gradient import AdamPolicyGradient, AdamSettings, Batch


@dataclass(frozen=True)
class ClimbSettings(AdamSettings):
    """The algorithm's section of a settings file."""

    lr: float = 0.01


@ALGORITHMS.register("climb")
class Climb(AdamPolicyGradient):
    """Adam on the log-probability of the best string of each batch."""

    Settings = ClimbSettings

    def update(self, batch: Batch) -> dict[str, Tensor]:
        best = batch.rewards.argmax(1, keepdim=True)
        likely = self.controller.score(batch.tokens).log_probs.sum(2).gather(1, best)[:, 0]
        self.ascend(likely)
        return {"log_probability": likely.detach()}
