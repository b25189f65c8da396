"""A program as the source of one Python function over a fixed number of tensors.

`torch.compile` reads it. Sizes, rates and keys are inputs, so that one compilation serves all.
"""

import linecache
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

import torch

from nos_repro.optim.batch import Step, arithmetic_dtype
from nos_repro.optim.compiled_draws import compiled_draws
from nos_repro.optim.places import LANES
from nos_repro.optim.program import Argument, Instruction, Program
from nos_repro.optim.ternary import select_signs
from nos_repro.rules.primitives import BINARY, BINARY_2, OPERANDS, UNARY, binary_row

Kernel = Callable[..., None]

_OPERATORS = {name: f"binary_{i}" for i, name in enumerate((*BINARY, *BINARY_2))}


@dataclass(frozen=True)
class KernelKind:
    """Everything that a compilation depends on."""

    program: Program
    dtype: torch.dtype
    device: torch.device
    l2: bool
    decoupled: bool
    maximize: bool
    keyed_rows: bool = False
    """Whether each row draws with a key of its own, for one tensor that is joined of many."""


def kind_of(step: Step, dtype: torch.dtype, device: torch.device) -> KernelKind:
    """The kind of kernel that does this step on tensors of this type."""
    decays = step.weight_decay != 0
    return KernelKind(
        program=_fast(step.program),
        dtype=dtype,
        device=device,
        l2=decays and not step.decoupled,
        decoupled=decays and step.decoupled,
        maximize=step.maximize,
    )


_fast = cache(select_signs)


def slots(kind: KernelKind) -> int:
    """Tensors per call: fewer need more calls, more take longer to compile."""
    if kind.keyed_rows:
        return 1
    if kind.program.sites and kind.device.type == "cpu":
        return 2
    return 8 if len(kind.program.body) <= 6 else 4


def scalar_names(kind: KernelKind) -> list[str]:
    """The names of the kernel's scalars, in the order of its input."""
    names = ["lr"]
    names += ["l2"] * kind.l2 + ["shrink"] * kind.decoupled
    for average in kind.program.averages:
        names += [f"beta_{average}", f"rest_{average}"]
    return names + list(kind.program.scalars)


def source(kind: KernelKind) -> str:
    """The source of `def update(weights, gradients, averages, scalars)`.

    If the rule draws it also takes `keys` and, from `RowPlaces`, `bases` and `strides`.
    """
    program, names = kind.program, scalar_names(kind)
    body = ["w = weights[i].to(dtype)", "g = gradients[i].to(dtype)"]
    if program.sites:
        stride = "strides.view(-1, 1)" if kind.keyed_rows else "strides[i]"
        body += [f"places = bases[i] + torch.arange({LANES}, device=w.device) * {stride}"]
    if kind.maximize:
        body += ["g = -g"]
    if kind.l2:
        body += ["g = g + w * l2"]
    for place, name in enumerate(program.averages):
        power = " * ".join("g" * OPERANDS[name].power)
        body += [
            f"{name} = averages[{place}][i] * beta_{name} + ({power}) * rest_{name}",
            f"averages[{place}][i].copy_({name})",
        ]
    states = list(enumerate(program.states, start=len(program.averages)))
    body += [f"{name} = averages[{place}][i]" for place, (name, _) in states]
    body += [_line(line, kind.keyed_rows) for line in program.body]
    if kind.decoupled:
        body += ["w = w * shrink"]
    body += [f"weights[i].copy_(w - {program.update} * lr)"]
    body += [f"averages[{place}][i].copy_({value})" for place, (_, value) in states]
    inputs = ["weights", "gradients", "averages", "scalars"]
    inputs += ["keys", "bases", "strides"] if program.sites else []
    return "\n".join(
        [
            f"def update({', '.join(inputs)}):",
            f"    {', '.join(names)}, = scalars.unbind()",
            f"    for i in range({slots(kind)}):",
            *(f"        {line}" for line in body),
        ]
    )


def build(kind: KernelKind) -> Kernel:
    """The source as a function, not compiled yet."""
    scope: dict[str, Any] = {
        "dtype": arithmetic_dtype(kind.dtype),
        "torch": torch,
        **{name: row.function for name, row in UNARY.items()},
        **{word: binary_row(name).function for name, word in _OPERATORS.items()},
    }
    if kind.program.sites:
        scope |= vars(compiled_draws())
    text = source(kind)
    name = f"<fused {blake2b(text.encode(), digest_size=8).hexdigest()}>"
    # torch.compile calls a function whose source it cannot find through one of its own, and the
    # ninth kernel would meet that one's limit of recompilations
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    exec(compile(text, name, "exec"), scope)
    kernel: Kernel = scope["update"]
    return kernel


def _line(line: Instruction, keyed_rows: bool) -> str:
    def word(a: Argument) -> str:
        return a if isinstance(a, str) else repr(a)

    arguments = [word(a) for a in line.arguments]
    first, words = (":", ("0:1", "1:2")) if keyed_rows else ("i", ("0", "1"))
    key = ", ".join(f"keys[{first}, {line.site}, {word}]" for word in words)
    match line.function:
        case "fill":
            (x,) = arguments
            scalar = isinstance(line.arguments[0], str)
            value = f"{x}.expand_as(g)" if scalar else f"torch.full_like(g, {x})"
        case "**" if line.arguments[1] == -0.5:  # as an eager power does: NaN at -inf
            value = f"torch.rsqrt({arguments[0]})"
        case "normal":
            value = f"normal(places, {key}, dtype)"
        case "drop":
            value = f"torch.where(keep(places, {key}, {line.parameter}), {arguments[0]}, 0.0)"
        case "carry":
            x, y = arguments
            value = f"torch.where({y} > 0, {x}, torch.where({y} < 0, -{x}, 0.0))"
        case "select":
            x, above, below, between = arguments
            value = f"torch.where({x} > 0, {above}, torch.where({x} < 0, {below}, {between}))"
        case name:
            extra = [] if line.parameter is None else [repr(line.parameter)]
            value = f"{_OPERATORS.get(name, name)}({', '.join(arguments + extra)})"
    return f"{line.result} = {value}"
