"""Max pool, ReLU and batch norm of a convolution's output as one layer, for one core.

On a CPU their eager forms take half as long as the convolutions: the pool writes indices of 8
bytes, and its backward pass fills and scatters. Here each pass reads and writes the images once
(`fused_norm_source`, compiled when a process first needs it, in half a second). Everywhere else
(another device, odd sizes, no compiler) the layer is the three modules one after the other.

*Departure* from the eager modules: only the rounding. The definitions are the same, and of equal
largest values the first one gets the gradient.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nos_repro.tasks.fused_norm_source import SOURCE
from nos_repro.tasks.pixels import call, compiled, fits

# fmt: off
ARGUMENTS = {
    # a pointer to a tensor, a long, a float; in the order of the source
    "forward":  "plll" "ff" "pppp" "ppppp",
    "backward": "ppp" "lll" "ppp" "ppp",
    "evaluate": "plll" "f" "pppp" "p",
}
# fmt: on


class FusedNorm(nn.Module):
    """`nn.MaxPool2d(pool)`, `nn.ReLU()` and `nn.BatchNorm2d(channels)` in this order."""

    def __init__(self, channels: int, pool: int) -> None:
        super().__init__()
        self.pool = pool
        self.norm = nn.BatchNorm2d(channels)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels pooled_height pooled_width"]:
        whole = x.shape[2] % self.pool == x.shape[3] % self.pool == 0
        fitting = whole and fits(x, self.norm, training=self.training)
        library = _library(self.pool, x.shape[1], x.dtype) if fitting else None
        if library is None:
            out: Tensor = self.norm(F.relu(F.max_pool2d(x, self.pool) if self.pool > 1 else x))
            return out
        pixels = x.permute(0, 2, 3, 1)
        if self.training:
            out = _Block.apply(pixels, self.norm.weight, self.norm.bias, self, library)
        else:
            out = self._evaluate(pixels, library)
        return out.permute(0, 3, 1, 2)

    def _evaluate(self, pixels: Tensor, library: ctypes.CDLL) -> Tensor:
        norm = self.norm
        out = pixels.new_empty(_pooled(pixels, self.pool))
        vectors = norm.weight, norm.bias, norm.running_mean, norm.running_var
        call(library, "evaluate", pixels, *out.shape[:3], norm.eps, *vectors, out)
        return out


class _Block(torch.autograd.Function):
    """From pixels [batch, height, width, channels] to the normalised ones; the running mean and
    variance of the layer change, as batch norm's do."""

    @staticmethod
    def forward(
        ctx: Any,
        pixels: Tensor,
        weight: Tensor,
        bias: Tensor,
        layer: FusedNorm,
        library: ctypes.CDLL,
    ) -> Tensor:
        norm = layer.norm
        out, pooled = (pixels.new_empty(_pooled(pixels, layer.pool)) for _ in range(2))
        place = torch.empty(pooled.shape, dtype=torch.uint8)
        mean, scale = torch.empty_like(weight), torch.empty_like(weight)
        vectors = weight, bias, norm.running_mean, norm.running_var
        made = pooled, place, mean, scale, out
        numbers = norm.eps, norm.momentum
        call(library, "forward", pixels, *out.shape[:3], *numbers, *vectors, *made)
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(pooled, place, mean, scale, weight)
        ctx.pool, ctx.library = layer.pool, library
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pooled, place, mean, scale, weight = ctx.saved_tensors
        n, h, w, c = pooled.shape
        pixels = pooled.new_empty(n, h * ctx.pool, w * ctx.pool, c)
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(weight)
        vectors = mean, scale, weight
        made = pixels, of_weight, of_bias
        sizes = n, h, w
        call(ctx.library, "backward", gradient.contiguous(), pooled, place, *sizes, *vectors, *made)
        return pixels, of_weight, of_bias, None, None


def _pooled(pixels: Tensor, pool: int) -> tuple[int, int, int, int]:
    n, h, w, c = pixels.shape
    return n, h // pool, w // pool, c


@functools.cache
def _library(pool: int, channels: int, dtype: torch.dtype) -> ctypes.CDLL | None:
    return compiled(SOURCE, {"POOL": pool, "C": channels}, dtype, ARGUMENTS)
