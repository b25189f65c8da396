"""The random numbers of draws: those of a string depend on a search's seed and its number alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio, SplitMix64's step."""


def uniforms(
    seeds: Sequence[int], numbers: np.ndarray[Any, Any], length: int
) -> Float64[Tensor, "seeds strings length"]:
    """``length`` numbers in [0, 1) for each string: multiples of 2^-32, by SplitMix64.

    numbers: the strings' numbers, one row for each seed.
    """
    first = np.array([seed * GOLDEN % 2**64 for seed in seeds], dtype=np.uint64)
    start = _mixed(first[:, None] + numbers.astype(np.uint64) + np.uint64(1))
    steps = np.array([step * GOLDEN % 2**64 for step in range(1, length + 1)], dtype=np.uint64)
    bits = _mixed(start[..., None] + steps) >> np.uint64(32)
    return torch.from_numpy(bits.astype(np.float64) / 2**32)


def _mixed(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray[Any, Any] = x ^ (x >> np.uint64(31))
    return mixed
