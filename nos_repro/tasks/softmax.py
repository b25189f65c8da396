"""The softmax over a whole vocabulary and its loss, a few rows at a time.

Logits of 2,240 words over a vocabulary of 10,000 take 90 MB, which cross entropy goes through eight
times. Here the logits of a few rows stay in a CPU's cache, and their gradient is computed at once.
On other devices, where small products leave most of the cores idle, all rows are taken together.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ROWS = 128


def plain(
    features: Float[Tensor, "rows features"],
    weight: Float[Tensor, "words features"],
    bias: Float[Tensor, " words"],
    targets: Int64[Tensor, " rows"],
) -> Float[Tensor, ""]:
    """The specification: the sum of the rows' cross entropies, in nats. The products are in the
    type of the features, the rest in that of the weights."""
    kind = features.dtype
    logits = F.linear(features, weight.to(kind), bias.to(kind)).to(weight.dtype)
    return F.cross_entropy(logits, targets, reduction="sum")


def cross_entropy(
    features: Float[Tensor, "rows features"],
    weight: Float[Tensor, "words features"],
    bias: Float[Tensor, " words"],
    targets: Int64[Tensor, " rows"],
) -> Float[Tensor, ""]:
    """The same as `plain`."""
    if not features.is_cpu or features.dtype != weight.dtype:
        return plain(features, weight, bias, targets)
    if not torch.is_grad_enabled():
        parts = zip(torch.split(features, ROWS), torch.split(targets, ROWS), strict=True)
        return torch.stack([plain(x, weight, bias, y) for x, y in parts]).sum()
    loss: Tensor = _CrossEntropy.apply(features, weight, bias, targets)
    return loss


class _CrossEntropy(torch.autograd.Function):
    """The loss; its gradients are computed along with it."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor
    ) -> Tensor:
        d_features = torch.empty_like(features)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        buffer = features.new_empty(min(ROWS, len(features)), len(weight))
        losses = []
        for start in range(0, len(features), ROWS):
            x, y = features[start : start + ROWS], targets[start : start + ROWS, None]
            logits = torch.addmm(bias, x, weight.t(), out=buffer[: len(x)])
            chosen, top = logits.gather(1, y), logits.amax(1, keepdim=True)
            # in place: half the cache; the kernel goes row by row and reads before it writes
            share = torch.softmax(logits, 1, out=logits)
            # the top word's share is exp(0) / sum, so its logarithm is that of the sum
            losses.append((top - chosen - share.amax(1, keepdim=True).log()).sum())
            share.scatter_add_(1, y, share.new_full((len(y), 1), -1.0))
            torch.mm(share, weight, out=d_features[start : start + ROWS])
            d_weight.addmm_(share.t(), x)
            d_bias += share.sum(0)
        ctx.save_for_backward(d_features, d_weight, d_bias)
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        d_features, d_weight, d_bias = ctx.saved_tensors
        return d_features * d_loss, d_weight * d_loss, d_bias * d_loss, None
