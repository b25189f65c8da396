"""REINFORCE with a moving-average baseline (Williams 1992), as Zoph & Le (2017) used it.

The papers' point of comparison: "known to exhibit poor sample efficiency" (sec. 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nos_repro.search.algorithms.base import ALGORITHMS, require
from nos_repro.search.algorithms.policy_gradient import (
    AdamPolicyGradient,
    Batch,
    PolicyGradientSettings,
    mean_entropy,
)


@dataclass(frozen=True)
class ReinforceSettings(PolicyGradientSettings):
    """The same Adam as PPO's, so that the two differ only in the algorithm."""

    lr: float = 1e-5
    """The rate of the controller's Adam."""
    most_weight: float = 1.0
    """The largest importance weight of a rule that an older policy wrote."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lr > 0, "lr", "positive", self.lr)
        require(self.most_weight > 0, "most_weight", "positive", self.most_weight)


@ALGORITHMS.register("reinforce")
class Reinforce(AdamPolicyGradient):
    """Maximises the mean over strings of A log p(string), with one step per batch.

    *Departure*: a string that an older policy wrote is weighted by p / p_then, ``most_weight`` at
    most; Zoph & Le's replicas did not correct for that. For the current policy's own strings the
    weight is 1.
    """

    Settings: ClassVar[type[Any]] = ReinforceSettings

    def update(self, batch: Batch) -> dict[str, float]:
        advantages = self.baseline.advantages(batch.rewards)
        scores = self.controller.score(batch.tokens)
        log_probs = scores.log_probs.sum(1)
        weight = (log_probs.detach() - batch.behaviour.sum(1)).exp()
        weight = weight.clamp(max=self.settings.most_weight)
        gain = (weight * advantages * log_probs).mean()
        self.ascend(gain + self.settings.entropy * mean_entropy(scores))
        return {"entropy": float(mean_entropy(scores).detach()), "weight": float(weight.mean())}
