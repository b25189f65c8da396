"""Updates by a kernel that torch's compiler made: some tensors per call, on any device.

A kernel sees each tensor as rows of `LANES` elements, so that the compiler needs no remainder loop;
what is left over goes through the foreach execution. Small tensors cost calls, not bytes: they are
joined into one. What a rule draws depends on the tensor, so for them it has a kernel of its own,
which reads a key per row.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from nos_repro.optim.batch import FlatBatch, arithmetic_dtype
from nos_repro.optim.kernel import Kernel, KernelKind, scalar_names, slots
from nos_repro.optim.places import LANES
from nos_repro.optim.scalars import Numbers

SMALL, JOINED_FROM = 4096, 8  # elements, tensors


def update_traced(
    kernel_of: Callable[[KernelKind], Kernel | None],
    kind: KernelKind,
    batch: FlatBatch,
    numbers: Numbers,
) -> FlatBatch:
    """Updates the whole rows of every tensor; returns what is left."""
    sites, size = kind.program.sites, slots(kind)
    by_rows = replace(kind, keyed_rows=True) if sites else kind
    rows, rest = _split(batch, drawn=sites > 0)
    small = [i for i, w in enumerate(rows.weights) if w.numel() <= SMALL]
    apart, joined = FlatBatch(), FlatBatch()
    if len(small) >= JOINED_FROM and kernel_of(by_rows) is not None:
        apart = rows.chosen(small)
        rows = rows.chosen([i for i, w in enumerate(rows.weights) if w.numel() > SMALL])
        joined = _joined(apart)
    missing = -len(rows.weights) % size if sites else 0
    owners = [*rows.numbers, *[0] * missing, *apart.numbers] if sites else []
    scalars, keys = numbers.on_device(owners)
    if not sites:
        rows.append(joined)
    for first in range(0, len(rows.weights), size):
        draws = _draws(kind, rows, first, keys[first : first + size]) if sites else ()
        _call(kernel_of(kind), kind, rows, first, scalars, *draws)
    if sites and apart.weights:
        draws = _row_draws(apart, keys[len(rows.weights) + missing :])
        _call(kernel_of(by_rows), by_rows, joined, 0, scalars, *draws)
    if apart.weights:
        _part(joined, apart)
    return rest


def _call(
    kernel: Kernel | None, kind: KernelKind, rows: FlatBatch, first: int, *numbers: object
) -> None:
    """Calls a kernel on as many tensors as it takes, from the first."""
    assert kernel is not None
    averages = [rows.averages[name] for name in kind.program.kept]
    columns = [rows.weights, rows.gradients, *averages]
    chunk = [column[first : first + slots(kind)] for column in columns]
    missing = slots(kind) - len(chunk[0])
    if missing:
        padding = _padding(kind)
        chunk = [part + pad[:missing] for part, pad in zip(chunk, padding, strict=True)]
    kernel(chunk[0], chunk[1], chunk[2:], *numbers)


def _split(batch: FlatBatch, *, drawn: bool) -> tuple[FlatBatch, FlatBatch]:
    """The parts of the tensors that make whole rows, and the flat remainders.

    A tensor whose draws do not follow the rows is left to the remainders.
    """
    sizes = [w.numel() for w in batch.weights]
    fit = [n >= 2 * LANES for n in sizes]
    if drawn:
        fit = [f and batch.places[i].rows is not None for i, f in enumerate(fit)]
    whole = [i for i, w in enumerate(batch.weights) if w.dim() == 2 and fit[i]]
    if len(whole) == len(batch.weights):
        return batch, FlatBatch()
    rows, rest = batch.chosen(whole), FlatBatch()
    for i, n in enumerate(sizes):
        if i in whole:
            continue
        if not fit[i]:
            rest.take(batch, i, 0, n)
        else:
            rows.take(batch, i, 0, n - n % LANES)
            rest.take(batch, i, n - n % LANES, n)
    return rows, rest


def _joined(small: FlatBatch) -> FlatBatch:
    """A copy of the tensors as one."""
    return FlatBatch(
        weights=[torch.cat(small.weights)],
        gradients=[torch.cat(small.gradients)],
        averages={name: [torch.cat(tensors)] for name, tensors in small.averages.items()},
    )


def _part(joined: FlatBatch, small: FlatBatch) -> None:
    """Copies the tensors of `_joined` back to where they came from."""
    lengths = [len(w) for w in small.weights]
    torch._foreach_copy_(small.weights, torch.split(joined.weights[0], lengths))
    for name, tensors in small.averages.items():
        torch._foreach_copy_(tensors, torch.split(joined.averages[name][0], lengths))


@cache
def _padding(kind: KernelKind) -> list[list[Tensor]]:
    """Two rows for every slot that a last call may leave empty; their values do not matter."""

    def tensors(dtype: torch.dtype) -> list[Tensor]:
        return [torch.zeros(2, LANES, dtype=dtype, device=kind.device) for _ in range(slots(kind))]

    averages = [tensors(arithmetic_dtype(kind.dtype)) for _ in kind.program.kept]
    return [tensors(kind.dtype), tensors(kind.dtype), *averages]


def _draws(
    kind: KernelKind, rows: FlatBatch, first: int, keys: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """What the tensors of a call draw with: keys [slot, site, 2], bases and strides."""
    places = [x.rows for x in rows.places[first : first + slots(kind)]]
    missing = slots(kind) - len(places)
    bases = [x.bases for x in places if x] + [_no_bases(kind.device)] * missing
    strides = tuple(x.stride for x in places if x) + (0,) * missing
    return keys, bases, _whole_numbers(strides, kind.device)


def _row_draws(small: FlatBatch, keys: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """What the rows of joined tensors draw with: keys [row, site, 2], bases and strides."""
    places = [x.rows for x in small.places]
    owner = _owners(tuple(len(w) for w in small.weights), keys.device)
    strides = _whole_numbers(tuple(x.stride for x in places if x), keys.device)
    bases = torch.cat([x.bases for x in places if x])
    return keys.index_select(0, owner), [bases], strides.index_select(0, owner)


@cache
def _no_bases(device: torch.device) -> Tensor:
    return torch.zeros(2, 1, dtype=torch.int64, device=device)


@cache
def _whole_numbers(values: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


@cache
def _owners(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """For every row of joined tensors, which of them it belongs to."""
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(device)


def example(kind: KernelKind) -> tuple[object, ...]:
    """Inputs of different sizes, large enough for the compiler to use every thread."""

    def sized(x: Tensor) -> Tensor:
        torch._dynamo.mark_dynamic(x, 0)
        return x

    def tensors(dtype: torch.dtype) -> list[Tensor]:
        sizes = [(4096 + i, LANES) for i in range(slots(kind))]
        return [sized(torch.zeros(size, dtype=dtype, device=kind.device)) for size in sizes]

    dtype, sites = arithmetic_dtype(kind.dtype), kind.program.sites
    scalars = torch.ones(len(scalar_names(kind)), dtype=dtype, device=kind.device)
    averages = [tensors(dtype) for _ in kind.program.kept]
    inputs = tensors(kind.dtype), tensors(kind.dtype), averages, scalars
    if not sites:
        return inputs
    bases = [sized(x.new_zeros(len(x), 1, dtype=torch.int64)) for x in inputs[0]]
    rows = len(bases[0]) if kind.keyed_rows else slots(kind)
    strides = torch.ones(rows, dtype=torch.int64, device=kind.device)
    keys = strides.new_zeros(rows, sites, 2)
    if kind.keyed_rows:
        strides, keys = sized(strides), sized(keys)
    return *inputs, keys, bases, strides
