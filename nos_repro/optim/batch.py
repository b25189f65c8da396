"""What one call of an execution updates: tensors of one device and dtype, laid flat.

Every execution sees a parameter as one flat tensor in the order of its memory, so that layouts
(channels last, transposed) need no care anywhere else. A parameter with holes between its
elements is copied out and back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nos_repro.optim.program import AVERAGES, Program, run_once


@dataclass(frozen=True)
class Step:
    """The settings of one update, the same for every tensor of a batch."""

    program: Program
    lr: float | Tensor
    betas: tuple[float, float, float]
    weight_decay: float
    decoupled: bool
    maximize: bool
    seed: int
    t: int
    inputs: Mapping[str, float]

    @property
    def scalars(self) -> Mapping[str, float]:
        """The scalars that the program's body reads."""
        return run_once(self.program, self.inputs)

    def beta(self, average: str) -> float:
        """The decay rate of an average."""
        return self.betas[AVERAGES.index(average)]


@dataclass
class Batch:
    """Flat tensors, parameter by parameter.

    numbers: the parameters' places in the optimizer. starts: where in its parameter a tensor
    begins, which is 0 but for the remainders that the fused execution leaves.
    """

    weights: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    averages: dict[str, list[Tensor]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    copied_out: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, p: Tensor, state: Mapping[str, Tensor], number: int) -> None:
        """Takes a parameter with its gradient; `state` holds its averages, laid out like it."""
        g = p.grad
        assert g is not None
        order = memory_order(p)
        if order is None:
            flat = p.detach().clone(memory_format=torch.contiguous_format).view(-1)
            self.copied_out.append((p, flat))
            order = tuple(range(p.dim()))
            self.weights.append(flat)
        else:
            self.weights.append(p.detach().permute(order).view(-1))
        self.gradients.append(g.detach().permute(order).reshape(-1))
        for name, average in state.items():
            self.averages.setdefault(name, []).append(average.permute(order).view(-1))
        self.numbers.append(number)
        self.starts.append(0)

    def copy_back(self) -> None:
        """Writes the parameters that are no flat memory."""
        for p, flat in self.copied_out:
            p.copy_(flat.view(p.shape))


def memory_order(p: Tensor) -> tuple[int, ...] | None:
    """The dimensions from the slowest to the fastest in memory; None if there are holes."""
    if p.is_contiguous():
        return tuple(range(p.dim()))
    strides = p.stride()
    order = tuple(sorted(range(p.dim()), key=lambda d: -strides[d]))
    return order if p.permute(order).is_contiguous() else None


def new_average(p: Tensor) -> Tensor:
    """Zeros laid out like the parameter (without its holes), in the dtype of the arithmetic."""
    dtype = arithmetic_dtype(p.dtype)
    if memory_order(p) is None:
        return torch.zeros(p.shape, dtype=dtype, device=p.device)
    return torch.zeros_like(p, dtype=dtype, memory_format=torch.preserve_format).detach()


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for the half-precision types: their averages would stand still at beta = 0.999."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
