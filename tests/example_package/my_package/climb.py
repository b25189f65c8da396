"""A search algorithm: raises the probability of the best string of each batch.

algorithm: {name: my_package.climb, lr: 0.01}
"""

from dataclasses import dataclass

from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.algorithms.base import require
from nos_repro.search.algorithms.policy_gradient import (
    AdamPolicyGradient,
    Batch,
    PolicyGradientSettings,
)


@dataclass(frozen=True)
class ClimbSettings(PolicyGradientSettings):
    """The algorithm's section of a settings file."""

    lr: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lr > 0, "lr", "positive", self.lr)


@ALGORITHMS.register("climb")
class Climb(AdamPolicyGradient):
    """Adam on the log-probability of the best string."""

    Settings = ClimbSettings

    def update(self, batch: Batch) -> dict[str, float]:
        self.baseline.advantages(batch.rewards)
        best = batch.rewards.argmax()
        likely = self.controller.score(batch.tokens[best : best + 1]).log_probs.sum()
        self.ascend(likely)
        return {"log_probability": likely.item()}
