"""Trust Region Policy Optimization (Schulman et al. 2015), with which 000 trains its controller.

A natural-gradient step, as long as the trust region allows, then shortened until it improves the
objective within the region. *Readings of the paper*: none of the constants are given; the region
bounds the mean KL divergence of whole strings, and conjugate gradients run the usual 10 iterations
with damping 0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nos_repro.search.algorithms.base import ALGORITHMS, require
from nos_repro.search.algorithms.policy_gradient import (
    Batch,
    PolicyGradient,
    PolicyGradientSettings,
    mean_entropy,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from nos_repro.search.controller import Scores


@dataclass(frozen=True)
class TRPOSettings(PolicyGradientSettings):
    """000 sec. 4.2 names the algorithm; the numbers are our reading."""

    max_kl: float = 0.01
    """The radius of the trust region, which sets the step, in nats per string."""
    damping: float = 0.1
    """Added to the diagonal of the Fisher matrix."""
    conjugate_steps: int = 10
    """Steps of the conjugate gradient."""
    halvings: int = 10
    """Step lengths to try, each half of the one before, until one improves the objective."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("max_kl", "damping"):
            require(getattr(self, key) > 0, key, "positive", getattr(self, key))
        for key in ("conjugate_steps", "halvings"):
            require(getattr(self, key) >= 1, key, "at least 1", getattr(self, key))


@ALGORITHMS.register("trpo")
class TRPO(PolicyGradient):
    """Maximises the mean of r A (r: a string's probability now over that when it was drawn) plus
    the entropy term, within ``max_kl`` of the policy before the update."""

    Settings: ClassVar[type[Any]] = TRPOSettings

    def update(self, batch: Batch) -> dict[str, float]:
        import torch
        from torch.nn.utils import parameters_to_vector, vector_to_parameters

        advantages = self.baseline.advantages(batch.rewards)
        parameters = list(self.controller.parameters())
        start = parameters_to_vector(parameters).detach().clone()

        def surrogate(scores: Scores) -> Float[Tensor, ""]:
            ratio = (scores.log_probs.sum(1) - batch.behaviour.sum(1)).exp()
            weight: float = self.settings.entropy
            return (ratio * advantages).mean() + weight * mean_entropy(scores)

        scores = self.controller.score(batch.tokens)
        before = [choices.detach() for choices in scores.choices]
        gain = surrogate(scores)
        gradient = _flat(torch.autograd.grad(gain, parameters, retain_graph=True))
        slope = _flat(torch.autograd.grad(_kl(before, scores), parameters, create_graph=True))

        def fisher(vector: Tensor) -> Tensor:
            product = torch.autograd.grad(slope @ vector, parameters, retain_graph=True)
            damping: float = self.settings.damping
            return _flat(product) + damping * vector

        direction = conjugate_gradient(fisher, gradient, self.settings.conjugate_steps)
        length = float(direction @ fisher(direction).detach())
        figures = {"entropy": float(mean_entropy(scores).detach()), "kl": 0.0, "moved": 0.0}
        if not length > 0:
            return figures
        step = direction * (2 * self.settings.max_kl / length) ** 0.5
        for halving in range(self.settings.halvings):
            vector_to_parameters(start + step * 0.5**halving, parameters)
            with torch.no_grad():
                after = self.controller.score(batch.tokens)
                kl = float(_kl(before, after))
                if float(surrogate(after)) > float(gain.detach()) and kl <= self.settings.max_kl:
                    return {**figures, "kl": kl, "moved": 0.5**halving}
        vector_to_parameters(start, parameters)
        return figures


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Float[Tensor, " n"],
    steps: int,
    tolerance: float = 1e-10,
) -> Float[Tensor, " n"]:
    """Approximately solves product(x) = b for a symmetric positive definite matrix.

    tolerance: stop when |residual|^2 is at most this fraction of |b|^2.
    """
    import torch

    x = torch.zeros_like(b)
    residual = b.clone()
    direction = b.clone()
    squared = residual @ residual
    for _ in range(steps):
        if float(squared) <= tolerance * float(b @ b):
            break
        image = product(direction)
        alpha = squared / (direction @ image)
        x = x + alpha * direction
        residual = residual - alpha * image
        following = residual @ residual
        direction = residual + following / squared * direction
        squared = following
    return x


def _kl(before: list[Tensor], scores: Scores) -> Float[Tensor, ""]:
    """The mean KL(before || now) of whole strings along the batch's prefixes, in nats."""
    import torch

    total = torch.zeros(len(before[0]))
    for old, new in zip(before, scores.choices, strict=True):
        allowed = old > -torch.inf
        gap = torch.where(allowed, old, 0.0) - torch.where(allowed, new, 0.0)
        total = total + (old.exp() * gap).sum(1)
    return total.mean()


def _flat(tensors: tuple[Tensor, ...]) -> Float[Tensor, " n"]:
    import torch

    return torch.cat([tensor.reshape(-1) for tensor in tensors])
