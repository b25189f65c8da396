"""What one call of an execution updates: the tensors of one device and dtype, flattened.

Every execution sees a parameter as one flat tensor in the order of its memory, so that no other
code needs to care about layouts (channels last, transposed). A parameter with holes between its
elements is copied out and back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nos_repro.optim.places import LANES, Places, places_of
from nos_repro.optim.program import AVERAGES, Program, run_once
from nos_repro.optim.sharding import like_parameter, local_part

BLOCK = 1 << 16  # elements per thread, whose temporary tensors the processor's cache holds


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
class FlatBatch:
    """Flat tensors, parameter by parameter.

    numbers: the parameters' places in the optimizer. places: those of each parameter's elements.
    starts: the offset of each tensor in its flat parameter: 0, except for the remainders that the
    fused execution leaves.
    """

    weights: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    averages: dict[str, list[Tensor]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    places: list[Places] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    copied_out: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(
        self, p: Tensor, laid: "Layout", averages: Mapping[str, Tensor], g: Tensor, number: int
    ) -> None:
        """Adds a parameter with its averages and gradient."""
        if laid.dense:
            self.weights.append(laid.flat(p.detach()))
        else:
            self.weights.append(laid.flat(p.clone(memory_format=torch.contiguous_format)))
            self.copied_out.append((p, self.weights[-1]))
        if g.requires_grad:
            g = g.detach()
        g = g.resolve_neg()
        if laid.plain and g.is_contiguous():
            self.gradients.append(g.view(laid.shape))
        else:
            self.gradients.append(g.permute(laid.order).reshape(laid.shape))
        for name, average in averages.items():
            self.averages.setdefault(name, []).append(laid.flat(average))
        self.numbers.append(number)
        self.places.append(laid.places)
        self.starts.append(0)

    def chosen(self, chosen: list[int]) -> "FlatBatch":
        """The tensors with these indices."""
        return FlatBatch(
            weights=[self.weights[i] for i in chosen],
            gradients=[self.gradients[i] for i in chosen],
            averages={name: [x[i] for i in chosen] for name, x in self.averages.items()},
            numbers=[self.numbers[i] for i in chosen],
            places=[self.places[i] for i in chosen],
            starts=[self.starts[i] for i in chosen],
        )

    def drawn(self, i: int, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """What is drawn for the places of the i-th tensor's elements, in its shape.

        In blocks, because the arithmetic of a draw makes dozens of temporary tensors.
        """
        like, start = self.weights[i], self.starts[i]
        end = start + like.numel()
        size = torch.get_num_threads() * BLOCK if like.device.type == "cpu" else like.numel()
        parts = [
            draw(self.places[i].between(block, min(block + size, end)))
            for block in range(start, max(end, start + 1), max(size, 1))
        ]
        return torch.cat(parts).view(like.shape)

    def copy_back(self) -> None:
        """Writes back the parameters that were copied out."""
        for part, flat in self.copied_out:
            part.copy_(flat.view(part.shape))


class Layout:
    """How parameters of one shape, layout and sharding are flattened; it holds none of them.

    The flat shape is [n], or [n / LANES, LANES] if that leaves no remainder.
    """

    def __init__(self, p: Tensor) -> None:
        part = local_part(p)
        order = memory_order(part)
        self.dense = order is not None
        self.order = order if order is not None else tuple(range(part.dim()))
        self.plain = part.is_contiguous()
        self.in_order = self.order == tuple(range(part.dim()))
        self.shape = flat_shape(part.numel())
        self.places = places_of(p, self.order)

    def flat(self, x: Tensor) -> Tensor:
        """A tensor of this layout as a flat view."""
        return x.view(self.shape) if self.in_order else x.permute(self.order).view(self.shape)


def flat_shape(n: int) -> tuple[int, ...]:
    """Rows of LANES if they leave no remainder and there are at least two; else [n]."""
    return (n // LANES, LANES) if n >= 2 * LANES and n % LANES == 0 else (n,)


def memory_order(p: Tensor) -> tuple[int, ...] | None:
    """The dimensions from the slowest to the fastest in memory.

    None if there are holes, or if the memory holds the negatives (the imaginary part of a
    conjugate), which a compiled kernel would take for the values.
    """
    if p.is_neg():
        return None
    if p.is_contiguous():
        return tuple(range(p.dim()))
    strides = p.stride()
    order = tuple(sorted(range(p.dim()), key=lambda d: -strides[d]))
    return order if p.permute(order).is_contiguous() else None


def new_average(p: Tensor) -> Tensor:
    """Zeros laid out like the parameter (without its holes), in the dtype of the arithmetic."""
    return like_parameter(new_local_average(local_part(p)), p)


def new_local_average(part: Tensor) -> Tensor:
    """The same for a tensor of this process."""
    dtype = arithmetic_dtype(part.dtype)
    if memory_order(part) is None:
        return torch.zeros(part.shape, dtype=dtype, device=part.device)
    return torch.zeros_like(part, dtype=dtype, memory_format=torch.preserve_format).detach()


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for the half-precision types: their averages would not move at beta = 0.999."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
