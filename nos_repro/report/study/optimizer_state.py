"""What an optimizer keeps beside the weights (002 sec. 6.4: one running average, Adam two)."""

from __future__ import annotations

import torch
from torch.nn import Parameter

from nos_repro.experiments.schema import Row
from nos_repro.optim.factory import make_optimizer

SIDE = 8
"""Of the square matrix that the optimizer is tried on."""


def values_a_parameter(row: Row) -> float:
    """Values that the row's optimizer keeps for each parameter, counted after a step of it."""
    weight = Parameter(torch.zeros(SIDE, SIDE))
    weight.grad = torch.ones(SIDE, SIDE)
    named = [("weight", weight)]
    optimizer = make_optimizer(row.optimizer, named, lr=1e-3, total_steps=2, **row.options)
    optimizer.step()
    kept = (value for state in optimizer.state.values() for value in state.values())
    tensors = [value for value in kept if isinstance(value, torch.Tensor)]
    return (
        sum(tensor.numel() for tensor in tensors if tensor.shape == weight.shape) / weight.numel()
    )
