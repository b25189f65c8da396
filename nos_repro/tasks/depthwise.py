"""Depthwise convolutions whose training is fast on a CPU.

oneDNN has a fast weight gradient for depthwise kernels of up to three columns; for wider ones it
takes ten times as long, and four times as long as everything else in the convolution (44 channels
of 28 x 28, batch 8, one core, channels-last: 3x3 0.2 ms, 5x3 0.2 ms, 5x5 2.2 ms; forward 0.2 ms).
So the gradient of a wide kernel is put together from those of its columns, three at a time. With
stride 2 this gains nothing.
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
    """`F.conv2d` of every channel by itself; `padding` counts the zeros around rows and columns."""
    slow = weight.shape[-1] > COLUMNS and stride == 1
    if slow and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        out: Tensor = _Depthwise.apply(x, weight, padding)
        return out
    return F.conv2d(x, weight, None, stride, padding, groups=len(weight))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, None, 1, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _backward(gradient, x, weight, ctx.padding, 0)
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(gradient, x, weight, ctx.padding)
        return of_x, of_weight, None


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    rows, columns = padding
    x = F.pad(x, (columns, columns))
    parts: list[Tensor] = []
    for part in torch.split(weight, COLUMNS, dim=-1):
        first, wide = COLUMNS * len(parts), part.shape[-1]
        seen = x[..., first : first + gradient.shape[-1] + wide - 1]
        parts.append(_backward(gradient, seen, part, (rows, 0), 1))
    return torch.cat(parts, dim=-1)


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], wanted: int
) -> Tensor:
    """The gradient of x (``wanted`` 0) or of the weight (1)."""
    mask = [wanted == 0, wanted == 1, False]
    gradients: list[Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], list(padding), [1, 1], False, [0, 0], len(weight), mask
    )
    return gradients[wanted]
