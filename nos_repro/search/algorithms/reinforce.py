"""REINFORCE with a moving-average baseline (Williams 1992), as Zoph & Le (2017) used it.

The papers' point of comparison: "known to exhibit poor sample efficiency" (sec. 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nos_repro.search.algorithms.base import ALGORITHMS, require
from nos_repro.search.algorithms.policy_gradient import AdamPolicyGradient, AdamSettings, Batch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class ReinforceSettings(AdamSettings):
    """The same Adam as PPO's, so that the two differ only in the algorithm."""

    most_weight: float = 1.0
    """The largest importance weight of a rule that an older policy wrote."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.most_weight > 0, "most_weight", "positive", self.most_weight)


@ALGORITHMS.register("reinforce")
class Reinforce(AdamPolicyGradient):
    """Maximises the mean over strings of A log p(string), with one step per batch.

    *Departure*: a string that an older policy wrote is weighted by p / p_then, ``most_weight`` at
    most; Zoph & Le's replicas did not correct for that. For the current policy's own strings the
    weight is 1.
    """

    Settings: ClassVar[type[Any]] = ReinforceSettings

    def update(self, batch: Batch) -> dict[str, Float[Tensor, " replicas"]]:
        scores, extra = self.scored(batch)
        log_probs = scores.log_probs.sum(2)
        weight = (log_probs.detach() - batch.behaviour.sum(2)).exp()
        weight = weight.clamp(max=self.settings.most_weight)
        self.ascend((weight * batch.advantages * log_probs).mean(1) + extra)
        return {"entropy": scores.nats(), "weight": weight.mean(1)}
