"""The plain meaning of a tree on tensors: what every faster execution is tested against.

*Readings of the paper*: equal subtrees are one value, so `noise - noise` is 0 and a drop that
occurs twice in a rule drops the same elements both times.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nos_repro.rules.primitives import BINARY, DELTA, UNARY, operand_row
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

Drop = Callable[[Tensor, float], Tensor]


def evaluate(
    expr: Expr,
    operands: Mapping[str, Tensor | float],
    drop: Drop | None = None,
    delta: float = DELTA,
) -> Tensor:
    """The update (before the learning rate), with the shape and dtype of `operands["g"]`.

    operands: g and whatever else the tree reads; g2, g3, adam and rmsprop are computed from their
    definitions unless they are given. Decays may be floats.
    drop: takes a tensor and the probability; called once per distinct drop, arguments first, left
    to right.
    """
    like = operands["g"]
    assert isinstance(like, Tensor)
    seen: dict[Expr, Tensor | float] = {}

    def tensor(value: Tensor | float) -> Tensor:
        return value if isinstance(value, Tensor) else torch.full_like(like, value)

    def compute(node: Expr) -> Tensor | float:
        match node:
            case Number(value):
                return value
            case Operand(name):
                if name in operands:
                    return operands[name]
                definition = operand_row(name).definition
                assert definition is not None, f"no value for {name}"
                return visit(definition)
            case Unary(function, x, parameter):
                argument = tensor(visit(x))
                if UNARY[function].random:
                    assert drop is not None, "a rule that drops needs the random numbers for it"
                    assert parameter is not None
                    return drop(argument.expand(like.shape), parameter)
                apply = UNARY[function].function
                assert apply is not None
                return apply(argument) if parameter is None else apply(argument, parameter)
            case Binary(function, x, y):
                binary = BINARY[function]
                left, right = visit(x), visit(y)
                if binary.adds_delta:
                    right = right + delta
                if binary.infix is None:
                    right = tensor(right)
                if binary.infix is None or not isinstance(right, Tensor):
                    left = tensor(left)
                return binary.function(left, right)

    def visit(node: Expr) -> Tensor | float:
        if node not in seen:
            seen[node] = compute(node)
        return seen[node]

    return tensor(visit(expr)).to(like.dtype).expand(like.shape)
