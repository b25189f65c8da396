"""Trust Region Policy Optimization (Schulman et al. 2015), with which 000 trains its controller.

A natural-gradient step, as long as the trust region allows, then shortened until it improves the
objective within the region. *Readings of the paper*: none of the constants are given; the region
bounds the mean KL divergence of whole strings, and conjugate gradients run the usual 10 iterations
with damping 0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nos_repro.search.algorithms.base import ALGORITHMS, require
from nos_repro.search.algorithms.policy_gradient import (
    Batch,
    PolicyGradient,
    PolicyGradientSettings,
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

    def update(self, batch: Batch) -> dict[str, Float[Tensor, " replicas"]]:
        import torch

        parameters = list(self.controller.parameters())
        gain, scores = self._gain(batch)
        gradient = _flat(torch.autograd.grad(gain.sum(), parameters, retain_graph=True))
        weight = scores.choices.detach().exp() / batch.tokens.shape[1]
        changes = self.controller.changes(batch.tokens)

        def fisher(vectors: Tensor) -> Tensor:
            """The Fisher matrix is J' diag(p) J, where J has the slopes of all log p."""
            change = weight * changes(_like(vectors, parameters))
            product = torch.autograd.grad(scores.choices, parameters, change, retain_graph=True)
            damping: float = self.settings.damping
            return _flat(product) + damping * vectors

        direction = conjugate_gradient(fisher, gradient, self.settings.conjugate_steps)
        length = (direction * fisher(direction)).sum(1)
        moves = length > 0
        figures = {"entropy": scores.nats(), "kl": torch.zeros_like(length)}
        if not moves.any():
            return {**figures, "moved": torch.zeros_like(length)}
        scale = (2 * self.settings.max_kl / length.where(moves, 1.0)).sqrt().where(moves, 0.0)
        steps = _like(direction * scale[:, None], parameters)
        kl, share = self._step(batch, steps, moves, gain.detach(), scores.choices.detach())
        return {**figures, "kl": kl, "moved": share}

    def _gain(self, batch: Batch) -> tuple[Float[Tensor, " replicas"], Scores]:
        scores, extra = self.scored(batch)
        ratio = (scores.log_probs.sum(2) - batch.behaviour.sum(2)).exp()
        return (ratio * batch.advantages).mean(1) + extra, scores

    def _step(
        self, batch: Batch, steps: list[Tensor], moves: Tensor, gain: Tensor, before: Tensor
    ) -> tuple[Float[Tensor, " replicas"], Float[Tensor, " replicas"]]:
        """Takes the largest share of the steps, 1, 1/2, 1/4, ..., that improves on ``gain`` within
        the trust region; none if no share does. Returns the divergence and the share."""
        import torch

        start = [parameter.detach().clone() for parameter in self.controller.parameters()]
        share, kl = moves.to(gain.dtype), torch.zeros_like(gain)
        for _ in range(self.settings.halvings):
            self._move(start, steps, share)
            with torch.no_grad():
                reached, scores = self._gain(batch)
                distance = _kl(before, scores)
            accepted = moves & (reached > gain) & (distance <= self.settings.max_kl)
            kl = distance.where(accepted, kl)
            moves = moves & ~accepted
            if not moves.any():
                break
            share = (share / 2).where(moves, share)
        share = share.where(~moves, 0.0)
        self._move(start, steps, share)
        return kl, share

    def _move(self, start: list[Tensor], steps: list[Tensor], share: Tensor) -> None:
        """Goes that share of its step from the start, for each replica."""
        import torch

        with torch.no_grad():
            for parameter, old, step in zip(
                self.controller.parameters(), start, steps, strict=True
            ):
                parameter.copy_(old + share.view(-1, *[1] * (old.dim() - 1)) * step)


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Float[Tensor, "replicas n"],
    steps: int,
    tolerance: float = 1e-10,
) -> Float[Tensor, "replicas n"]:
    """Approximately solves product(x) = b for a symmetric positive definite matrix per replica.

    tolerance: stop where |residual|^2 is at most this fraction of |b|^2.
    """
    import torch

    x = torch.zeros_like(b)
    residual = b.clone()
    direction = b.clone()
    squared = (residual * residual).sum(1, keepdim=True)
    enough = tolerance * squared
    for _ in range(steps):
        goes_on = squared > enough
        if not goes_on.any():
            break
        image = product(direction)
        alpha = torch.where(goes_on, squared / (direction * image).sum(1, keepdim=True), 0.0)
        x = x + alpha * direction
        residual = residual - alpha * image
        following = (residual * residual).sum(1, keepdim=True)
        direction = torch.where(goes_on, residual + following / squared * direction, direction)
        squared = torch.where(goes_on, following, squared)
    return x


def _kl(before: Tensor, scores: Scores) -> Float[Tensor, " replicas"]:
    """The mean KL(before || now) of whole strings along the batch's prefixes, in nats."""
    import torch

    allowed = before > -torch.inf
    gap = torch.where(allowed, before, 0.0) - torch.where(allowed, scores.choices, 0.0)
    return (before.exp() * gap).sum((2, 3)).mean(1)


def _flat(tensors: Sequence[Tensor]) -> Float[Tensor, "replicas n"]:
    import torch

    return torch.cat([tensor.flatten(1) for tensor in tensors], 1)


def _like(vectors: Float[Tensor, "replicas n"], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The parts of flat vectors in the shapes of the tensors that they are made of."""
    import torch

    sizes = [tensor[0].numel() for tensor in tensors]
    parts = torch.split(vectors, sizes, 1)
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
