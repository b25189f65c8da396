"""The contract of a search algorithm: it is handed samples with their rewards, and learns.

It registers itself; your own is named by its module: `algorithm: {name: my_package.mine}`. Those
that ship import torch when they learn: a report asks only for their settings.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nos_repro.errors import ConfigError
from nos_repro.registry import Registry, require_methods

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    from nos_repro.search.controller import Controller, Scores


class Batch(NamedTuple):
    """Samples and their rewards.

    ``behaviour`` has the log-probabilities at the time of the draw, since asynchronous workers
    return rewards for strings that an older policy wrote.
    """

    tokens: Int64[Tensor, "strings length"]
    behaviour: Float[Tensor, "strings length"]
    rewards: Float[Tensor, " strings"]


@dataclass(frozen=True)
class AlgorithmSettings:
    """The settings that every algorithm is given (sec. 4.2), whether it uses them or not."""

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


def require(holds: bool, key: str, rule: str, given: object) -> None:
    """Raises ConfigError `algorithm.KEY must be RULE, got GIVEN` unless the condition holds."""
    if not holds:
        raise ConfigError(f"algorithm.{key} must be {rule}, got {given}")


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


class Algorithm(ABC):
    """Turns batches into better policies. ``Settings`` is the dataclass of its YAML section."""

    Settings: ClassVar[type[Any]] = AlgorithmSettings

    def __init__(self, controller: Controller, settings: Any) -> None:
        self.controller = controller
        self.settings = settings
        self.baseline = Baseline(settings.baseline_decay)

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, float]:
        """Learns from a batch; returns figures about the update, by name."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on, besides the controller's weights."""
        return {"baseline": self.baseline.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.baseline.value = state["baseline"]


class AdamAlgorithm(Algorithm):
    """An algorithm that takes its steps with Adam; it keeps Adam's state too."""

    def __init__(self, controller: Controller, settings: Any) -> None:
        import torch

        super().__init__(controller, settings)
        self.optimizer = torch.optim.Adam(controller.parameters(), lr=settings.lr)

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


def _is_algorithm(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Algorithm)


def _check(name: str, cls: Any) -> None:
    what = f"algorithm {name}"
    if not _is_algorithm(cls):
        raise ConfigError(f"{what}: expected a class derived from Algorithm, got {cls!r}")
    if not dataclasses.is_dataclass(cls.Settings):
        raise ConfigError(f"{what}: Settings of {cls.__name__} must be a dataclass")
    require_methods(what, cls, Algorithm)


ALGORITHMS: Registry[type[Algorithm]] = Registry(
    "algorithm",
    "nos_repro.search.algorithms",
    check=_check,
    recognise=_is_algorithm,
    key="algorithm.name",
)
"""Its decorator makes `algorithm: {name: NAME}` mean the Algorithm that it is put on."""
