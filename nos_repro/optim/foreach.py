"""The foreach execution: every line of the program on all tensors at once (`torch._foreach_*`)."""

from typing import TypeAlias

import torch
from torch import Tensor

from nos_repro.optim.batch import FlatBatch, Step, arithmetic_dtype
from nos_repro.optim.program import Argument, Instruction
from nos_repro.optim.reference import apply, draw, of_whole
from nos_repro.rules.primitives import BINARY, UNARY
from nos_repro.rules.rows import BinaryRow, Tensors, UnaryRow

Value: TypeAlias = "Tensors | float"


def update_foreach(batch: FlatBatch, step: Step) -> None:
    """One update of every tensor of the batch, in place; equal to `update_reference`."""
    dtype = arithmetic_dtype(batch.weights[0].dtype)
    w: Tensors = [x.to(dtype) for x in batch.weights]
    g: Tensors = [x.to(dtype) for x in batch.gradients]
    if step.maximize:
        g = torch._foreach_neg(g)
    if step.weight_decay != 0 and not step.decoupled:
        g = torch._foreach_add(g, torch._foreach_mul(w, step.weight_decay))
    update_averages(batch.averages, g, step)
    update, *new = run_body(batch, step, w, g)
    if step.weight_decay != 0 and step.decoupled:
        w = torch._foreach_mul(w, 1 - step.lr * step.weight_decay)
    torch._foreach_copy_(batch.weights, torch._foreach_sub(w, torch._foreach_mul(update, step.lr)))
    for (name, _), value in zip(step.program.states, new, strict=True):
        torch._foreach_copy_(batch.averages[name], value)


def update_averages(averages: dict[str, list[Tensor]], g: Tensors, step: Step) -> None:
    """Each average moves towards its power of g."""
    power = g
    for name in ("m", "v", "gamma"):
        if name in averages:
            beta = step.beta(name)
            torch._foreach_mul_(averages[name], beta)
            torch._foreach_add_(averages[name], torch._foreach_mul(power, 1 - beta))
        if name != "gamma" and {"v", "gamma"} & averages.keys():
            power = torch._foreach_mul(power, g)


def run_body(batch: FlatBatch, step: Step, w: Tensors, g: Tensors) -> list[Tensors]:
    """The rule's update, then the new values of its states; values that no later line reads are
    freed at once."""
    scalars = {name: float(x) for name, x in step.scalars.items()}
    values: dict[str, Value] = {**scalars, **batch.averages, "w": w, "g": g}

    def value(a: Argument) -> Value:
        return values[a] if isinstance(a, str) else a

    for line, dead in zip(step.program.body, step.program.last_uses, strict=True):
        arguments = [value(a) for a in line.arguments]
        values[line.result] = _line(line, arguments, batch, step, g)
        for name in dead:
            del values[name]
    return [x for x in map(values.get, step.program.results) if isinstance(x, list | tuple)]


def _line(
    line: Instruction, arguments: list[Value], batch: FlatBatch, step: Step, g: Tensors
) -> Tensors:
    """The row's own function of lists if it has one, else the reference, tensor by tensor."""
    row: UnaryRow | BinaryRow | None = UNARY.get(line.function) or BINARY.get(line.function)
    if line.function in step.program.wholes:
        (x,) = arguments
        assert not isinstance(x, float)
        return [of_whole(line, [x[i]], batch, i) for i in range(len(g))]
    if row is not None and row.foreach is not None and not isinstance(arguments[0], float):
        extra = () if line.parameter is None else (line.parameter,)
        return row.foreach(*arguments, *extra)
    results = []
    for i, like in enumerate(g):
        own = [a if isinstance(a, float) else a[i] for a in arguments]
        if line.site is None:
            results.append(apply(line, own, like))
        else:
            results.append(draw(line, own, batch, i, step))
    return results
