"""Proximal Policy Optimization (Schulman et al. 2017), with which 002 trains its controller.

*Readings of the paper*: every token is an action whose ratio is clipped separately; the string's
reward is the reward of each of its tokens, without discount. The number of passes over a batch and
the clipping range are not given: 4 passes and 0.2 are Schulman et al.'s usual values.
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
class PPOSettings(AdamSettings):
    """002 sec. 4.2: Adam at 1e-5."""

    clip: float = 0.2
    """How far a token's probability may move from that at its draw, as a share."""
    passes: int = 4
    """Gradient steps on each batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clip > 0, "clip", "positive", self.clip)
        require(self.passes >= 1, "passes", "at least 1", self.passes)


@ALGORITHMS.register("ppo")
class PPO(AdamPolicyGradient):
    """Maximises mean over strings of sum over tokens of min(r A, clip(r, 1 - c, 1 + c) A).

    r is the token's probability now over that when it was drawn, so the clip that limits the passes
    also limits what a stale sample can change.
    """

    Settings: ClassVar[type[Any]] = PPOSettings

    def update(self, batch: Batch) -> dict[str, Float[Tensor, " replicas"]]:
        import torch

        advantages = batch.advantages[..., None]
        c = self.settings.clip
        figures: dict[str, Tensor] = {}
        for _ in range(self.settings.passes):
            scores, extra = self.scored(batch)
            ratio = (scores.log_probs - batch.behaviour).exp()
            gain = torch.minimum(ratio * advantages, ratio.clamp(1 - c, 1 + c) * advantages)
            if not figures:
                figures["entropy"] = scores.nats()
            self.ascend(gain.sum(2).mean(1) + extra)
        outside = (ratio.detach() - 1).abs() > c
        return {**figures, "clipped": outside.float().mean((1, 2))}
