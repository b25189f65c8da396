"""Batch norm and ReLU of a convolution's input as one layer, for one core.

The eager layers read and write the images seven times a step; here it is four times
(`norm_relu_source`). Everywhere else (another device, no compiler) it is the two functions one
after the other.

*Departure* from them: only the rounding; in bfloat16 the normalised images are not rounded before
the ReLU and its gradient.
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

from nos_repro.tasks.norm_relu_source import SOURCE
from nos_repro.tasks.pixels import call, compiled, fits

# fmt: off
ARGUMENTS = {
    # a pointer to a tensor, a long, a float; in the order of the source
    "forward":  "pll" "ff" "pppp" "ppp",
    "backward": "ppll" "pppp" "ppp",
    "evaluate": "pll" "f" "pppp" "p",
}
# fmt: on


class NormReLU(nn.BatchNorm2d):
    """`nn.BatchNorm2d(channels)` and `nn.ReLU()` in this order; ``fused``: as one layer."""

    def __init__(self, channels: int, *, fused: bool = False) -> None:
        super().__init__(channels)
        self.fused = fused

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        fitting = self.fused and fits(x, self, training=self.training)
        library = _library(x.shape[1], x.dtype) if fitting else None
        if library is None:
            return F.relu(super().forward(x), inplace=True)
        pixels = x.permute(0, 2, 3, 1)
        if self.training:
            out: Tensor = _Block.apply(pixels, self.weight, self.bias, self, library)
        else:
            out = torch.empty_like(pixels)
            vectors = self.weight, self.bias, self.running_mean, self.running_var
            call(library, "evaluate", pixels, *_sizes(pixels), self.eps, *vectors, out)
        return out.permute(0, 3, 1, 2)


class _Block(torch.autograd.Function):
    """From pixels [batch, height, width, channels] to the normalised ones; the running mean and
    variance of the layer change, as batch norm's do."""

    @staticmethod
    def forward(
        ctx: Any,
        pixels: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm: NormReLU,
        library: ctypes.CDLL,
    ) -> Tensor:
        assert norm.num_batches_tracked is not None
        out = torch.empty_like(pixels)
        mean, scale = torch.empty_like(weight), torch.empty_like(weight)
        numbers = norm.eps, norm.momentum
        vectors = weight, bias, norm.running_mean, norm.running_var
        call(library, "forward", pixels, *_sizes(pixels), *numbers, *vectors, mean, scale, out)
        norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(pixels, mean, scale, weight, bias)
        ctx.library = library
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pixels, *vectors = ctx.saved_tensors
        of = torch.empty_like(pixels)
        of_weight, of_bias = (torch.empty_like(vectors[0]) for _ in range(2))
        made = of, of_weight, of_bias
        sizes = _sizes(pixels)
        call(ctx.library, "backward", gradient.contiguous(), pixels, *sizes, *vectors, *made)
        return of, of_weight, of_bias, None, None


def _sizes(pixels: Tensor) -> tuple[int, int]:
    """How many images, and pixels in each."""
    images, height, width, _ = pixels.shape
    return images, height * width


@functools.cache
def _library(channels: int, dtype: torch.dtype) -> ctypes.CDLL | None:
    return compiled(SOURCE, {"C": channels}, dtype, ARGUMENTS)
