"""What several files of the package share; a change here makes the records stale that used it."""

import torch
from torch import Tensor

SLOPE, OFFSET, NOISE = 2.0, -1.0, 0.1


def draw_points(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points near a line, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, generator=generator)
    return x, SLOPE * x + OFFSET + NOISE * torch.randn(count, 1, generator=generator)
