"""The reference execution: a plain loop over tensors. It is the specification of the others."""

import torch
from torch import Tensor

from nos_repro.optim.batch import FlatBatch, Step, arithmetic_dtype
from nos_repro.optim.draws import Key, keep, make_key, normal
from nos_repro.optim.program import Argument, Instruction
from nos_repro.rules.primitives import BINARY, BINARY_2, OPERANDS, UNARY_2, binary_row, unary_row

Value = Tensor | float


def update_reference(batch: FlatBatch, step: Step) -> None:
    """One update of every tensor of the batch, in place."""
    for i in range(len(batch.weights)):
        update_tensor(batch, i, step)


def update_tensor(batch: FlatBatch, i: int, step: Step) -> None:
    """One update of the i-th tensor: weight decay, averages, the rule, the weights."""
    weights = batch.weights[i]
    kept = {name: tensors[i] for name, tensors in batch.averages.items()}
    dtype = arithmetic_dtype(weights.dtype)
    w, g = weights.to(dtype), batch.gradients[i].to(dtype)
    if step.maximize:
        g = -g
    if step.weight_decay != 0 and not step.decoupled:
        g = g + w * step.weight_decay
    for name in step.program.averages:
        average, beta = kept[name], step.beta(name)
        power = g
        for _ in range(1, OPERANDS[name].power):
            power = power * g
        average.copy_(average * beta + power * (1 - beta))
    update, *new = run_body(step, {"g": g, "w": w, **kept}, batch, i)
    if step.weight_decay != 0 and step.decoupled:
        w = w * (1 - step.lr * step.weight_decay)
    weights.copy_(w - update * step.lr)
    for (name, _), value in zip(step.program.states, new, strict=True):
        kept[name].copy_(value)


def run_body(step: Step, inputs: dict[str, Tensor], batch: FlatBatch, i: int) -> list[Tensor]:
    """The rule's update, then the new values of its states: runs the lines of the program, one
    after the other."""
    values: dict[str, Value] = {**step.scalars, **inputs}

    def value(a: Argument) -> Value:
        return values[a] if isinstance(a, str) else a

    for line in step.program.body:
        arguments = [value(a) for a in line.arguments]
        if line.site is not None:
            values[line.result] = draw(line, arguments, batch, i, step)
        elif line.function in step.program.wholes:
            values[line.result] = of_whole(line, arguments, batch, i)
        else:
            values[line.result] = apply(line, arguments, inputs["g"])
    return [x for x in map(values.get, step.program.results) if isinstance(x, Tensor)]


def apply(line: Instruction, arguments: list[Value], like: Tensor) -> Tensor:
    """Applies a function of the language's tables."""
    if line.function == "fill":
        (x,) = arguments
        if isinstance(x, Tensor):
            return x.to(like.dtype).expand_as(like)
        return torch.full_like(like, x)
    if line.function in BINARY or line.function in BINARY_2:
        return binary_row(line.function).function(*arguments)
    function = unary_row(line.function).function
    assert function is not None, line.function
    return function(*arguments) if line.parameter is None else function(*arguments, line.parameter)


def of_whole(line: Instruction, arguments: list[Value], batch: FlatBatch, i: int) -> Tensor:
    """Applies a function of a whole tensor, or of a whole matrix, to the i-th."""
    (x,), row = arguments, UNARY_2[line.function]
    assert isinstance(x, Tensor)
    assert row.function is not None, line.function
    if row.scope == "matrix":
        laid = batch.layouts[i]
        return laid.flat_gradient(row.function(laid.whole(x)))
    return row.function(x.reshape(-1)).view(x.shape)


def draw(line: Instruction, arguments: list[Value], batch: FlatBatch, i: int, step: Step) -> Tensor:
    """Draws noise or a drop for the i-th tensor."""
    assert line.site is not None
    key = _key(step, batch, i, line.site)
    if line.function == "normal":
        dtype = arithmetic_dtype(batch.weights[i].dtype)
        return batch.drawn(i, lambda places: normal(places, key, dtype))
    probability = line.parameter
    assert probability is not None
    (x,) = arguments
    return torch.where(batch.drawn(i, lambda places: keep(places, key, probability)), x, 0.0)


def _key(step: Step, batch: FlatBatch, i: int, site: int) -> Key | tuple[Tensor, Tensor]:
    if isinstance(step.t, int):
        return make_key(step.seed, step.t, batch.numbers[i], site)
    low, high = step.keys_of(batch.numbers)[i, site].unbind()
    return low, high
