"""The fused execution: one pass over memory, compiled once for all shapes of a device and dtype.

A kernel updates a fixed number of tensors at a time. It sees each as rows of `LANES` elements, so
that the compiler needs no remainder loop; the few elements left over, and tensors with fewer than
two rows, go through the foreach execution, which gives the same numbers.
"""

import threading
import warnings
from functools import cache

import torch
from torch import Tensor

from nos_repro.errors import ConfigError
from nos_repro.optim.batch import Batch, FlatBatch, Step, arithmetic_dtype
from nos_repro.optim.compiled_draws import ONE_LOOP
from nos_repro.optim.compiler import compile_kernel, compiler_errors
from nos_repro.optim.draws import make_key
from nos_repro.optim.foreach import update_foreach
from nos_repro.optim.kernel import Kernel, KernelKind, build, kind_of, scalar_names, slots
from nos_repro.optim.native import NativeKernel, native_kernel
from nos_repro.optim.places import LANES
from nos_repro.optim.program import run_once

SMALL, JOINED_FROM = 4096, 8  # elements, tensors
PAYS_FROM = 1_000_000  # elements: below this, seconds of compiling save too little per step
DEVICES = ("cpu", "cuda", "xpu")

_COMPILED: dict[KernelKind, NativeKernel | Kernel] = {}
_FAILED: dict[str, str] = {}
_COMPILING = threading.RLock()


def uses_fused(wish: bool | None, batch: Batch, step: Step) -> bool:
    """Whether the fused execution updates a batch: if requested, or possible and worth it.

    Raises ConfigError if it is requested but impossible.
    """
    if wish is False:
        return False
    first = batch.parameters[0]
    types = {x.type for x in batch.parameters} - {Tensor}
    if wish is None and (
        types
        or first.device.type not in DEVICES
        or sum(x.numel for x in batch.parameters) < PAYS_FROM
    ):
        return False
    if types:  # of a fake tensor a kernel would read memory that is not there
        names = ", ".join(sorted(each.__name__ for each in types))
        raise ConfigError(f"fused=True is not possible here: a parameter is a {names}")
    kind = kind_of(step, first.dtype, first.device)
    ready = _ready(kind)
    if wish and not ready:
        raise ConfigError(f"fused=True is not possible here: {_FAILED[kind.device.type]}")
    return ready


def update_fused(batch: Batch, step: Step) -> None:
    """One update of every tensor of the batch, in place; equal to `update_reference`."""
    first = batch.parameters[0]
    kind = kind_of(step, first.dtype, first.device)
    kernel, scalars = _COMPILED[kind], _scalars(kind, step)
    if isinstance(kernel, NativeKernel):
        rest = kernel.update(batch, step, scalars)
    else:
        rest = _update_traced(kernel, kind, batch.flattened(), step, scalars)
    if rest.weights:
        update_foreach(rest, step)


def _update_traced(
    kernel: Kernel, kind: KernelKind, batch: FlatBatch, step: Step, scalars: Tensor
) -> FlatBatch:
    """Updates the whole rows, some tensors per call; returns what is left."""
    rows, rest = _split(batch, drawn=kind.program.sites > 0)
    small: FlatBatch | None = None
    if kind.program.sites == 0:
        rows, small = _joined(rows)
    averages = [rows.averages[name] for name in kind.program.averages] if rows.weights else []
    size = slots(kind)
    for first in range(0, len(rows.weights), size):
        columns = [rows.weights, rows.gradients, *averages]
        chunk = [column[first : first + size] for column in columns]
        missing = size - len(chunk[0])
        if missing:
            padding = _padding(kind)
            chunk = [part + pad[:missing] for part, pad in zip(chunk, padding, strict=True)]
        draws = _draws(kind, step, rows, slice(first, first + size)) if kind.program.sites else ()
        kernel(chunk[0], chunk[1], chunk[2:], scalars, *draws)
    if small is not None:
        _part(small, rows)
    return rest


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


def _joined(rows: FlatBatch) -> tuple[FlatBatch, FlatBatch | None]:
    """The batch with its small tensors joined into one, the last, and those small tensors.

    Small tensors cost calls, not bytes. (Not for a rule that draws: what it draws depends on the
    tensor.)
    """
    small = [i for i, w in enumerate(rows.weights) if w.numel() <= SMALL]
    if len(small) < JOINED_FROM:
        return rows, None
    alone = rows.chosen([i for i, w in enumerate(rows.weights) if w.numel() > SMALL])
    together = rows.chosen(small)
    alone.weights.append(torch.cat(together.weights))
    alone.gradients.append(torch.cat(together.gradients))
    for name, tensors in together.averages.items():
        alone.averages[name].append(torch.cat(tensors))
    return alone, together


def _part(small: FlatBatch, rows: FlatBatch) -> None:
    """Copies the joined tensors of `_joined` back to where they came from."""
    lengths = [len(w) for w in small.weights]
    torch._foreach_copy_(small.weights, torch.split(rows.weights[-1], lengths))
    for name, tensors in small.averages.items():
        torch._foreach_copy_(tensors, torch.split(rows.averages[name][-1], lengths))


@cache
def _padding(kind: KernelKind) -> list[list[Tensor]]:
    """Two rows for every slot that a last call may leave empty; their values do not matter."""

    def tensors(dtype: torch.dtype) -> list[Tensor]:
        return [torch.zeros(2, LANES, dtype=dtype, device=kind.device) for _ in range(slots(kind))]

    averages = [tensors(arithmetic_dtype(kind.dtype)) for _ in kind.program.averages]
    return [tensors(kind.dtype), tensors(kind.dtype), *averages]


def _scalars(kind: KernelKind, step: Step) -> Tensor:
    """The kernel's scalars as one tensor, rounded as an eager operation rounds them."""
    values: dict[str, float | Tensor] = {
        **run_once(kind.program, step.inputs, arithmetic_dtype(kind.dtype)),
        "lr": step.lr,
        "l2": step.weight_decay,
        "shrink": 1 - step.lr * step.weight_decay,
    }
    for name in kind.program.averages:
        values |= {f"beta_{name}": step.beta(name), f"rest_{name}": 1 - step.beta(name)}
    row = [values[name] for name in scalar_names(kind)]
    scalars = torch.tensor(
        [0.0 if isinstance(x, Tensor) else x for x in row],
        dtype=arithmetic_dtype(kind.dtype),
        device=kind.device,
    )
    for i, x in enumerate(row):
        if isinstance(x, Tensor):
            scalars[i] = x
    return scalars


def _draws(
    kind: KernelKind, step: Step, rows: FlatBatch, chosen: slice
) -> tuple[Tensor, list[Tensor], Tensor]:
    """The kernel's keys [slot, site, 2], bases and strides: what the chosen tensors draw with."""
    sites, places = range(kind.program.sites), [x.rows for x in rows.places[chosen]]
    missing = slots(kind) - len(places)
    keys = [
        [make_key(step.seed, step.t, number, site) for site in sites]
        for number in rows.numbers[chosen]
    ]
    keys += [[(0, 0) for _ in sites]] * missing
    known = [x for x in places if x is not None]
    assert len(known) == len(places)
    bases = [x.bases for x in known] + [_no_bases(kind)] * missing
    strides = [x.stride for x in known] + [0] * missing
    numbers = torch.tensor(keys, device=kind.device), torch.tensor(strides, device=kind.device)
    return numbers[0], bases, numbers[1]


@cache
def _no_bases(kind: KernelKind) -> Tensor:
    return torch.zeros(2, 1, dtype=torch.int64, device=kind.device)


def _ready(kind: KernelKind) -> bool:
    """Compiles the kernel once, on tensors of its own; warns once if that fails."""
    if kind not in _COMPILED:
        with _COMPILING:  # several threads may train with the same rule
            _try_to_compile(kind)
    return kind in _COMPILED


def _try_to_compile(kind: KernelKind) -> None:
    where = kind.device.type
    if kind not in _COMPILED and where not in _FAILED:
        try:
            if where not in DEVICES:
                raise RuntimeError(f"no compiler for device '{where}'")
            options = ONE_LOOP if kind.program.sites else {}
            native = native_kernel(kind)
            _COMPILED[kind] = native or compile_kernel(build(kind), _example(kind), options)
        except compiler_errors() as error:
            _FAILED[where] = " ".join(str(error).split())[:300]
            warnings.warn(
                f"nos_repro: the fused update could not be compiled for '{where}' and the foreach "
                f"one goes on in its place (several times slower): {_FAILED[where]}",
                stacklevel=3,
            )


def _example(kind: KernelKind) -> tuple[object, ...]:
    """Inputs of different sizes, large enough for the compiler to use every thread."""

    def tensors(dtype: torch.dtype) -> list[Tensor]:
        made = []
        for i in range(slots(kind)):
            x = torch.zeros(4096 + i, LANES, dtype=dtype, device=kind.device)
            torch._dynamo.mark_dynamic(x, 0)
            made.append(x)
        return made

    dtype = arithmetic_dtype(kind.dtype)
    scalars = torch.ones(len(scalar_names(kind)), dtype=dtype, device=kind.device)
    averages = [tensors(dtype) for _ in kind.program.averages]
    inputs = tensors(kind.dtype), tensors(kind.dtype), averages, scalars
    if not kind.program.sites:
        return inputs
    strides = torch.ones(slots(kind), dtype=torch.int64, device=kind.device)
    keys = strides.new_zeros(slots(kind), kind.program.sites, 2)
    bases = [x.new_zeros(len(x), 1, dtype=torch.int64) for x in inputs[0]]
    for base in bases:
        torch._dynamo.mark_dynamic(base, 0)
    return *inputs, keys, bases, strides
