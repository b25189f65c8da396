"""Layers in C for one core: compiling their source, and calling it with tensors of pixels.

A source is compiled when a process first needs it, in half a second, for one type of pixels and one
number of channels. Pixels are [images, height, width, channels], contiguous.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

TYPES = {torch.bfloat16: ["-DBF16"], torch.float32: []}
"""The types of pixels, and how a source is told."""
C_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_long, "f": ctypes.c_float}
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared")
HEAD = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>

// Pixels are [images, height, width, C] of bfloat16 or float32.
#ifdef BF16
typedef uint16_t pixel;
typedef int16_t bits;
#define INFINITE 0x7f80
static inline float value(pixel x) {
    uint32_t wide = (uint32_t)x << 16;
    float f;
    memcpy(&f, &wide, 4);
    return f;
}
static inline pixel rounded(float f) {  // to the nearest, ties to even; NaN stays NaN
    uint32_t wide;
    memcpy(&wide, &f, 4);
    uint32_t up = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
    return (pixel)(f != f ? 0x7fc0 : up);
}
#else
typedef float pixel;
typedef int32_t bits;
#define INFINITE 0x7f800000
static inline float value(pixel x) { return x; }
static inline pixel rounded(float f) { return f; }
#endif
"""
"""What every source begins with."""


def compiled(
    source: str, defined: Mapping[str, int], dtype: torch.dtype, arguments: Mapping[str, str]
) -> ctypes.CDLL | None:
    """The library of a source with HEAD above it; ``arguments``: of each of its functions, the
    types, by the letters of C_TYPES. None, with a warning, where it cannot be compiled."""
    wanted = [*TYPES[dtype], *(f"-D{name}={value}" for name, value in defined.items())]
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "layer.c"), Path(folder, "layer.so")
        file.write_text(HEAD + source, encoding="ascii")
        command = [_compiler(), *FLAGS, *wanted, str(file), "-o", str(library), "-lm"]
        try:
            subprocess.run(
                command, check=True, capture_output=True, errors="replace", encoding="utf-8"
            )
            return _declared(ctypes.CDLL(str(library)), arguments)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            warnings.warn(
                "nos_repro: `fused: true` needs a C compiler; the layers go on one after the other,"
                f" which is slower: {' '.join(said.split())[:300]}",
                stacklevel=2,
            )
            return None


def call(library: ctypes.CDLL, name: str, *given: Any) -> None:
    """Calls a function; tensors are contiguous, others plain numbers."""
    getattr(library, name)(*(x.data_ptr() if isinstance(x, Tensor) else x for x in given))


def fits(x: Tensor, norm: nn.BatchNorm2d, *, training: bool) -> bool:
    """Whether images [batch, channels, height, width] can go through such a layer."""
    return (
        x.device.type == "cpu"
        and x.dtype in TYPES
        and norm.weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and len(x) > 1
        and (training or not torch.is_grad_enabled())
    )


def _declared(library: ctypes.CDLL, arguments: Mapping[str, str]) -> ctypes.CDLL:
    """The library with the types of its functions' arguments."""
    for name, letters in arguments.items():
        function = getattr(library, name)
        function.argtypes, function.restype = [C_TYPES[letter] for letter in letters], None
    return library


def _compiler() -> str:
    named = os.environ.get("CC")
    return named or next(filter(shutil.which, ("cc", "gcc", "clang")), "cc")
