"""The plain meaning of a tree on tensors: what every faster execution is tested against.

*Readings of the paper*: equal subtrees are one value, so `noise - noise` is 0 and a drop that
occurs twice in a rule drops the same elements both times.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nos_repro.rules.primitives import DELTA, binary_row, operand_row, unary_row
from nos_repro.rules.rows import UnaryRow
from nos_repro.rules.states import kept, spelled_out
from nos_repro.rules.tree import Binary, Expr, Number, Operand, States, Unary, state_of

Drop = Callable[[Tensor, float], Tensor]


def evaluate(
    expr: Expr,
    operands: Mapping[str, Tensor | float],
    drop: Drop | None = None,
    delta: float = DELTA,
    *,
    states: States = (),
    memory: dict[str, Tensor] | None = None,
    tensor_shape: tuple[int, ...] | None = None,
) -> Tensor:
    """The update (before the learning rate), with the shape and dtype of `operands["g"]`.

    operands: g and whatever else the tree reads; g2, g3, adam and rmsprop are computed from their
    definitions unless they are given. Decays may be floats.
    drop: takes a tensor and the probability; called once per distinct drop, arguments first, left
    to right, the states' first.
    memory: the old values of the states, 0 where one is missing; the new ones take their place.
    tensor_shape: that of each tensor of a batch, for functions of whole tensors; by default, the
    operands are one tensor.
    """
    like = operands["g"]
    assert isinstance(like, Tensor)
    seen: dict[Expr, Tensor | float] = {}
    expr, states = spelled_out(expr, states)
    trees, before = dict(states), {} if memory is None else memory
    shape = tuple(like.shape) if tensor_shape is None else tensor_shape

    def tensor(value: Tensor | float) -> Tensor:
        return value if isinstance(value, Tensor) else torch.full_like(like, value)

    def compute(node: Expr) -> Tensor | float:
        match node:
            case Number(value):
                return value
            case Operand(name):
                if name in operands:
                    return operands[name]
                if state := state_of(name):
                    if not state[1]:
                        return visit(trees[state[0]])
                    known = before.get(state[0])
                    return torch.zeros_like(like) if known is None else known
                definition = operand_row(name).definition
                assert definition is not None, f"no value for {name}"
                return visit(definition)
            case Unary(function, x, parameter):
                argument, row = tensor(visit(x)), unary_row(function)
                if row.random:
                    assert drop is not None, "a rule that drops needs the random numbers for it"
                    assert parameter is not None
                    return drop(argument.expand(like.shape), parameter)
                apply = row.function
                assert apply is not None, f"{function} keeps a state"
                if row.scope != "element":
                    return whole(row, argument.expand(like.shape))
                return apply(argument) if parameter is None else apply(argument, parameter)
            case Binary(function, x, y):
                binary = binary_row(function)
                left, right = visit(x), visit(y)
                if binary.adds_delta:
                    right = right + delta
                if binary.infix is None:
                    right = tensor(right)
                if binary.infix is None or not isinstance(right, Tensor):
                    left = tensor(left)
                return binary.function(left, right)

    def whole(row: UnaryRow, x: Tensor) -> Tensor:
        parts = shape if row.scope == "matrix" else (math.prod(shape),)
        assert row.function is not None
        return row.function(x.reshape(-1, *parts)).reshape(like.shape)

    def visit(node: Expr) -> Tensor | float:
        if node not in seen:
            seen[node] = compute(node)
        return seen[node]

    def filled(tree: Expr) -> Tensor:
        return tensor(visit(tree)).to(like.dtype).expand(like.shape)

    new = {name: filled(tree) for name, tree in states}
    update = filled(expr)
    if memory is not None:
        memory.update({name: new[name] for name in kept(expr, states)})
    return update
