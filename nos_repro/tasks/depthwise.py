"""Depthwise convolutions whose training is fast on a CPU.

oneDNN has a fast weight gradient for depthwise kernels of up to three columns; for wider ones it
takes ten times as long, and four times as long as all the rest of the convolution (44 channels of
28 x 28, batch 8, one core, channels-last: 3x3 0.2 ms, 5x3 0.2 ms, 5x5 2.2 ms; forward 0.2 ms). So
the gradient of a wide kernel is put together from those of its columns, three at a time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

COLUMNS = 3


def depthwise(
    x: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "channels one kernel kernel"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Tensor, "batch channels height_out width_out"]:
    """`F.conv2d` of every channel by itself, rows and columns padded by so many zeros."""
    wide = weight.shape[-1] > COLUMNS
    if wide and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        out: Tensor = _Depthwise.apply(x, weight, stride, padding)
        return out
    return F.conv2d(x, weight, None, stride, padding, groups=len(weight))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _backward(gradient, x, weight, ctx.stride, ctx.padding, (True, False))[0]
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(gradient, x, weight, ctx.stride, ctx.padding)
        return of_x, of_weight, None, None


def _of_weight(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]
) -> Tensor:
    rows, columns = padding
    x = F.pad(x, (columns, columns))
    reach = (gradient.shape[-1] - 1) * stride
    parts = []
    for part in weight.split(COLUMNS, dim=-1):
        first, wide = COLUMNS * len(parts), part.shape[-1]
        seen = x[..., first : first + reach + wide]
        parts.append(_backward(gradient, seen, part, stride, (rows, 0), (False, True))[1])
    return torch.cat(parts, dim=-1)


def _backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: tuple[int, int],
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    pairs = [[stride, stride], list(padding), [1, 1]]
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, *pairs, False, [0, 0], len(weight), [*wanted, False]
    )
    return gradients
