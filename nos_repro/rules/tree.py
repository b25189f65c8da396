"""The expression tree of an update rule (sec. 3.1): immutable, hashable, compared by value.

Identity and keep-left leave no node: they are `x`. A tree is only data; `primitives` defines what
a name means.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Operand:
    """An input of the rule: the gradient, a running average, a decay (`primitives.OPERANDS`), or a
    value of a state that the rule itself keeps (`old_value`, `new_value`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    """A constant: finite, and never -0.0, which would compare equal to 0.0 (write `neg(0)`)."""

    value: float

    def __post_init__(self) -> None:
        assert math.isfinite(self.value), self.value
        assert self.value != 0 or math.copysign(1, self.value) == 1, "-0.0"


@dataclass(frozen=True, slots=True)
class Unary:
    """`function(x)`; clip has a parameter, its bound, and drop has one, its probability."""

    function: str
    x: "Expr"
    parameter: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """`x function y`, with function one of `+ - * / **`."""

    function: str
    x: "Expr"
    y: "Expr"


Expr: TypeAlias = Operand | Number | Unary | Binary
States: TypeAlias = tuple[tuple[str, Expr], ...]
"""The states that a rule keeps, by name, each with the tree of its new value. Before the first
update a state is 0; a tree may read the new values of the states before it."""

LANGUAGES = (1, 2)
"""The editions of the language: the papers', and one with states and functions of whole tensors."""

_STATE = re.compile(r"(old|new)\((\w+)\)")


def old_value(state: str) -> Operand:
    """The value of a state before the update."""
    return Operand(f"old({state})")


def new_value(state: str) -> Operand:
    """The value of a state after the update."""
    return Operand(f"new({state})")


def state_of(operand: str) -> tuple[str, bool] | None:
    """The state that an operand is a value of, and whether it is the old one; None if of none."""
    found = _STATE.fullmatch(operand)
    return None if found is None else (found[2], found[1] == "old")


def children(expr: Expr) -> tuple[Expr, ...]:
    """The arguments of a node, left to right."""
    match expr:
        case Unary():
            return (expr.x,)
        case Binary():
            return (expr.x, expr.y)
        case _:
            return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """Every node, arguments before the functions that take them, left to right."""
    for child in children(expr):
        yield from walk(child)
    yield expr
