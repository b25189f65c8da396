"""What one call of an execution updates: the tensors of one device and dtype, flattened.

Every execution sees a parameter as one flat tensor in the order of its memory, so that no other
code needs to care about layouts (channels last, transposed). A parameter with holes between its
elements is copied out and back.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nos_repro.optim.device_keys import keys_at
from nos_repro.optim.places import LANES, Places, places_of
from nos_repro.optim.program import AVERAGES, Program, run_once
from nos_repro.optim.sharding import like_parameter, local_part

BLOCK = 1 << 16  # elements per thread, whose temporary tensors the processor's cache holds


@dataclass(frozen=True)
class Step:
    """The settings of one update, the same for every tensor of a batch.

    t: how many steps came before. Where it is a tensor, so are the inputs that depend on it.
    hashed: the keys of draws that were made already, where t is a tensor.
    """

    program: Program
    lr: float | Tensor
    betas: tuple[float, float, float]
    weight_decay: float
    decoupled: bool
    maximize: bool
    seed: int
    t: int | Tensor
    inputs: Mapping[str, float | Tensor]
    hashed: dict[tuple[int, ...], Tensor] = field(default_factory=dict, compare=False, repr=False)

    def keys_of(self, numbers: Sequence[int]) -> Tensor:
        """The keys [tensor, site, 2] of these tensors' draws, where t is a tensor: hashed once."""
        assert isinstance(self.t, Tensor)
        tensors = tuple(numbers)
        if tensors not in self.hashed:
            self.hashed[tensors] = keys_at(self.seed, self.t, tensors, self.program.sites)
        return self.hashed[tensors]

    @property
    def on_device(self) -> bool:
        """Whether the step's number is a tensor."""
        return isinstance(self.t, Tensor)

    @property
    def scalars(self) -> Mapping[str, float | Tensor]:
        """The scalars that the program's body reads."""
        return run_once(self.program, self.inputs)

    def beta(self, average: str) -> float:
        """The decay rate of an average."""
        return self.betas[AVERAGES.index(average)]


@dataclass
class FlatBatch:
    """Flat tensors, parameter by parameter.

    averages: and the states that the rule names, in the order of `Program.kept`.
    numbers: the parameters' places in the optimizer. places: those of each parameter's elements.
    layouts: how whole parameters were flattened.
    starts: the offset of each tensor in its flat parameter: 0, except for the remainders that the
    fused execution leaves.
    """

    weights: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    averages: dict[str, list[Tensor]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    places: list[Places] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    layouts: list["Layout"] = field(default_factory=list)

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

    def append(self, batch: "FlatBatch") -> None:
        """Adds the tensors of another batch, without what their draws need."""
        self.weights += batch.weights
        self.gradients += batch.gradients
        for name, tensors in batch.averages.items():
            self.averages[name] = self.averages.get(name, []) + tensors

    def take(self, batch: "FlatBatch", i: int, start: int, end: int) -> None:
        """Adds the elements from `start` to `end` of the i-th tensor of another batch."""

        def part(x: Tensor) -> Tensor:
            whole = end - start == x.numel()
            return x if whole else x.view(-1)[start:end].view(flat_shape(end - start))

        self.weights.append(part(batch.weights[i]))
        self.gradients.append(part(batch.gradients[i].contiguous()))
        for name, tensors in batch.averages.items():
            self.averages.setdefault(name, []).append(part(tensors[i]))
        self.numbers.append(batch.numbers[i])
        self.places.append(batch.places[i])
        self.starts.append(start)

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


class FlatParameter:
    """Where a parameter's weights and averages lie, and their flat views.

    w: what is updated, the parameter or its float32 copy. It and the averages are held weakly. A
    parameter with holes between its elements is copied out, and `copy_back` writes it back.
    """

    def __init__(self, w: Tensor, laid: "Layout", averages: Mapping[str, Tensor]) -> None:
        part = local_part(w)
        self.laid, self._of = laid, weakref.ref(w)
        self._averages = [(name, weakref.ref(x)) for name, x in averages.items()]
        self._copy = None if laid.dense else part.clone(memory_format=torch.contiguous_format)
        flats = [self.weights, *self.averages.values()]
        self.type, self.numel = type(flats[0]), part.numel()
        self.device, self.dtype = part.device, part.dtype
        self.uniform = all(x.dtype is self.dtype for x in flats)
        self.address, *self.addresses = (x.data_ptr() if type(x) is Tensor else 0 for x in flats)
        self._stride, self._shape = part.stride(), part.shape
        self.stays = laid.dense and type(w) in (Tensor, torch.nn.Parameter)

    @property
    def weights(self) -> Tensor:
        """The weights, flat."""
        part = self._copy
        if part is None:
            w = self._of()
            assert w is not None
            part = local_part(w).detach()
        return self.laid.flat(part)

    @property
    def averages(self) -> dict[str, Tensor]:
        """The averages by name, flat."""
        averages = [(name, x()) for name, x in self._averages]
        return {name: self.laid.flat(local_part(x)) for name, x in averages if x is not None}

    def holds(self, w: Tensor, state: Mapping[str, Any]) -> bool:
        """Whether this tensor and the averages of this state are still where they were."""
        for (name, known), address in zip(self._averages, self.addresses, strict=True):
            x = known()
            if x is None or x.data_ptr() != address or state.get(name) is not x:
                return False
        return (
            w is self._of()
            and w.dtype is self.dtype
            and w.data_ptr() == self.address
            and w.stride() == self._stride
            and w.shape == self._shape
        )

    def copy_back(self) -> None:
        """Writes back what was copied out."""
        w = self._of()
        if self._copy is not None and w is not None:
            local_part(w).copy_(self._copy)

    def follows(self, g: Tensor) -> bool:
        """Whether a gradient lies in memory as the weights do."""
        return (
            self._copy is None
            and g.stride() == self._stride
            and g.dtype is self.dtype
            and not g.is_neg()
            and not g._is_zerotensor()
        )


class ParameterBatch:
    """The parameters that one call can update, with their gradients and places in the optimizer."""

    def __init__(self) -> None:
        self.parameters: list[FlatParameter] = []
        self.gradients: list[Tensor] = []
        self.numbers: list[int] = []

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.parameters[0].device

    def add(self, flat: FlatParameter, gradient: Tensor, number: int) -> None:
        """Adds a parameter; the gradient is this process's part, not flattened."""
        self.parameters.append(flat)
        self.gradients.append(gradient)
        self.numbers.append(number)

    def flattened(self, chosen: Sequence[int] | None = None) -> FlatBatch:
        """The chosen parameters (default: all) as flat tensors."""
        flat = FlatBatch()
        for i in range(len(self.parameters)) if chosen is None else chosen:
            x = self.parameters[i]
            flat.weights.append(x.weights)
            flat.gradients.append(x.laid.flat_gradient(self.gradients[i]))
            for name, average in x.averages.items():
                flat.averages.setdefault(name, []).append(average)
            flat.numbers.append(self.numbers[i])
            flat.places.append(x.laid.places)
            flat.starts.append(0)
            flat.layouts.append(x.laid)
        return flat

    def copy_back(self) -> None:
        """Writes back the parameters that were copied out."""
        for x in self.parameters:
            x.copy_back()


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
        self.sizes = tuple(part.shape)
        self.places = places_of(p, self.order)

    def flat(self, x: Tensor) -> Tensor:
        """A tensor of this layout as a flat view."""
        return x.view(self.shape) if self.in_order else x.permute(self.order).view(self.shape)

    def whole(self, flat: Tensor) -> Tensor:
        """A flat tensor in the shape of its parameter."""
        turned = flat.view([self.sizes[d] for d in self.order])
        return turned.permute([self.order.index(d) for d in range(len(self.order))])

    def flat_gradient(self, g: Tensor) -> Tensor:
        """A gradient of such a parameter, which may lie in memory in another way."""
        if g.requires_grad:
            g = g.detach()
        g = g.resolve_neg()
        if self.plain and g.is_contiguous():
            return g.view(self.shape)
        return g.permute(self.order).reshape(self.shape)


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
