"""What PPO, TRPO and REINFORCE share: the controller, the batch, and the baseline (sec. 3.2).

A gradient algorithm of your own derives from `PolicyGradient` and defines `update`.
"""

from __future__ import annotations

import dataclasses
import statistics
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nos_repro.rules.space import Space
from nos_repro.search.algorithms.base import (
    Algorithm,
    AlgorithmSettings,
    ControllerSettings,
    Proposal,
    require,
)
from nos_repro.search.sample import DIGITS, Sample, mixed

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    from nos_repro.search.controller import Scores


class Batch(NamedTuple):
    """Samples and their rewards.

    ``behaviour`` has the log-probabilities at the time of the draw, since asynchronous workers
    return rewards for strings that an older policy wrote.
    """

    tokens: Int64[Tensor, "strings length"]
    behaviour: Float[Tensor, "strings length"]
    rewards: Float[Tensor, " strings"]


@dataclass(frozen=True)
class PolicyGradientSettings(AlgorithmSettings):
    """Sec. 4.2."""

    batch: int = 5
    """Rewards per update."""
    entropy: float = 0.0015
    """Weight of the policy's entropy (nats, summed over the string) in the objective."""
    baseline_decay: float = 0.95
    """Decay of the moving average of rewards. *Departure*: the papers do not give it."""

    def __post_init__(self) -> None:
        require(self.batch >= 1, "batch", "at least 1", self.batch)
        require(self.entropy >= 0, "entropy", "at least 0", self.entropy)
        require(0 <= self.baseline_decay < 1, "baseline_decay", "in [0, 1)", self.baseline_decay)


class Baseline:
    """An exponential moving average of earlier rewards (sec. 3.2).

    *Reading of the paper*: the first batch is compared to its own mean.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.value: float | None = None

    def advantages(self, rewards: Float[Tensor, " strings"]) -> Float[Tensor, " strings"]:
        """Rewards minus the baseline, which is then updated with them."""
        mean = float(rewards.mean())
        before = mean if self.value is None else self.value
        self.value = self.decay * before + (1 - self.decay) * mean
        return rewards - before


class PolicyGradient(Algorithm):
    """Draws from the controller's policy; turns each ``batch`` of rewards into a better one."""

    Settings: ClassVar[type[Any]] = PolicyGradientSettings

    def __init__(
        self, space: Space, settings: Any, *, seed: int, controller: ControllerSettings
    ) -> None:
        from nos_repro.search.controller import Controller

        super().__init__(space, settings, seed=seed, controller=controller)
        self.controller = Controller(space, controller.hidden, controller.init, seed=seed)
        self.baseline = Baseline(settings.baseline_decay)
        self.updates = 0
        self.rewarded: list[tuple[Sample, float]] = []
        """The batch being collected."""

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, float]:
        """Learns from a batch; returns figures about the update, by name."""

    def propose(self, number: int, open: Mapping[int, Sample]) -> Proposal:
        import torch

        generator = torch.Generator().manual_seed(mixed(self.seed, number))
        drawn = self.controller.sample(1, generator)
        (tokens,) = self.controller.decode(drawn.tokens)
        return Proposal(tokens, [round(x, DIGITS) for x in drawn.log_probs[0].tolist()])

    def learn(self, sample: Sample, reward: float) -> dict[str, float] | None:
        self.rewarded.append((sample, reward))
        if len(self.rewarded) < self.settings.batch:
            return None
        batch, self.rewarded = self.rewarded, []
        staleness = statistics.fmean(self.updates - sample.policy for sample, _ in batch)
        figures = self.update(self._batch(batch))
        self.updates += 1
        return {**figures, "staleness": staleness, "baseline": self.baseline.value or 0.0}

    def _batch(self, rewarded: list[tuple[Sample, float]]) -> Batch:
        import torch

        samples, rewards = zip(*rewarded, strict=True)
        return Batch(
            self.controller.encode([sample.tokens for sample in samples]),
            torch.tensor([sample.log_probs for sample in samples]),
            torch.tensor(rewards, dtype=torch.float32),
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "controller": self.controller.state_dict(),
            "baseline": self.baseline.value,
            "updates": self.updates,
            "rewarded": [(dataclasses.asdict(sample), r) for sample, r in self.rewarded],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        self.baseline.value = state["baseline"]
        self.updates = state["updates"]
        self.rewarded = [(Sample(**values), reward) for values, reward in state["rewarded"]]


class AdamPolicyGradient(PolicyGradient):
    """An algorithm that takes its steps with Adam; it keeps Adam's state too."""

    def __init__(
        self, space: Space, settings: Any, *, seed: int, controller: ControllerSettings
    ) -> None:
        import torch

        super().__init__(space, settings, seed=seed, controller=controller)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=settings.lr)

    def ascend(self, objective: Tensor) -> None:
        """One step of Adam uphill."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(-objective)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])


def mean_entropy(scores: Scores) -> Float[Tensor, ""]:
    """Nats per string."""
    return scores.entropy.sum(1).mean()
