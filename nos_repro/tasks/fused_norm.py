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
import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nos_repro.tasks.fused_norm_source import SOURCE

TYPES = {torch.bfloat16: ["-DBF16"], torch.float32: []}
"""The types of pixels, and how the source is told."""
# fmt: off
ARGUMENTS = {
    # a pointer to a tensor, a long, a float; in the order of the source
    "forward":  "plll" "ff" "pppp" "ppppp",
    "backward": "ppp" "lll" "ppp" "ppp",
    "evaluate": "plll" "f" "pppp" "p",
}
# fmt: on
C_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_long, "f": ctypes.c_float}
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared")


class FusedNorm(nn.Module):
    """`nn.MaxPool2d(pool)`, `nn.ReLU()` and `nn.BatchNorm2d(channels)` in this order."""

    def __init__(self, channels: int, pool: int) -> None:
        super().__init__()
        self.pool = pool
        self.norm = nn.BatchNorm2d(channels)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels pooled_height pooled_width"]:
        if not self._fits(x) or _library(self.pool, x.shape[1], x.dtype) is None:
            out: Tensor = self.norm(F.relu(F.max_pool2d(x, self.pool) if self.pool > 1 else x))
            return out
        pixels = x.permute(0, 2, 3, 1)
        if self.training:
            out = _Block.apply(pixels, self.norm.weight, self.norm.bias, self)
        else:
            out = self._evaluate(pixels)
        return out.permute(0, 3, 1, 2)

    def _fits(self, x: Tensor) -> bool:
        return (
            x.device.type == "cpu"
            and x.dtype in TYPES
            and self.norm.weight.dtype == torch.float32
            and x.is_contiguous(memory_format=torch.channels_last)
            and x.shape[2] % self.pool == x.shape[3] % self.pool == 0
            and len(x) > 1
            and (self.training or not torch.is_grad_enabled())
        )

    def _evaluate(self, pixels: Tensor) -> Tensor:
        norm = self.norm
        out = pixels.new_empty(_pooled(pixels, self.pool))
        vectors = norm.weight, norm.bias, norm.running_mean, norm.running_var
        _call("evaluate", self.pool, pixels, *out.shape[:3], norm.eps, *vectors, out)
        return out


class _Block(torch.autograd.Function):
    """From pixels [batch, height, width, channels] to the normalised ones; the running mean and
    variance of the layer change, as batch norm's do."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor, bias: Tensor, layer: FusedNorm) -> Tensor:
        norm = layer.norm
        out, pooled = (pixels.new_empty(_pooled(pixels, layer.pool)) for _ in range(2))
        place = torch.empty(pooled.shape, dtype=torch.uint8)
        mean, scale = torch.empty_like(weight), torch.empty_like(weight)
        vectors = weight, bias, norm.running_mean, norm.running_var
        made = pooled, place, mean, scale, out
        _call(
            "forward", layer.pool, pixels, *out.shape[:3], norm.eps, norm.momentum, *vectors, *made
        )
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(pooled, place, mean, scale, weight)
        ctx.pool = layer.pool
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
        _call("backward", ctx.pool, gradient.contiguous(), pooled, place, n, h, w, *vectors, *made)
        return pixels, of_weight, of_bias, None


def _pooled(pixels: Tensor, pool: int) -> tuple[int, int, int, int]:
    n, h, w, c = pixels.shape
    return n, h // pool, w // pool, c


def _call(name: str, pool: int, first: Tensor, *others: Any) -> None:
    """Calls a function of the library for `first`'s type; tensors are contiguous, others plain
    numbers."""
    function = getattr(_library(pool, first.shape[-1], first.dtype), name)
    function(first.data_ptr(), *(x.data_ptr() if isinstance(x, Tensor) else x for x in others))


@functools.cache
def _library(pool: int, channels: int, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled source; None, with a warning, where it cannot be compiled."""
    wanted = [*TYPES[dtype], f"-DPOOL={pool}", f"-DC={channels}"]
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "fused_norm.c"), Path(folder, "fused_norm.so")
        source.write_text(SOURCE, encoding="ascii")
        command = [_compiler(), *FLAGS, *wanted, str(source), "-o", str(library), "-lm"]
        try:
            subprocess.run(
                command, check=True, capture_output=True, errors="replace", encoding="utf-8"
            )
            return _declared(ctypes.CDLL(str(library)))
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            warnings.warn(
                "nos_repro: `fused: true` needs a C compiler; max pool, ReLU and batch norm go on "
                f"one after the other, which is slower: {' '.join(said.split())[:300]}",
                stacklevel=2,
            )
            return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions' arguments."""
    for name, letters in ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = [C_TYPES[letter] for letter in letters], None
    return library


def _compiler() -> str:
    named = os.environ.get("CC")
    return named or next(filter(shutil.which, ("cc", "gcc", "clang")), "cc")
