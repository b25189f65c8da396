"""The rows of the tables in `primitives`: everything that the suite knows about a primitive.

Most fields have a safe default: unless its row says more, a function is opaque to algebra, runs
tensor by tensor, is exported under its name in torch, and enters only the search spaces that name
it. A row names torch's functions, and torch is imported when one is called: who only reads, prints
or compares rules does without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from nos_repro.rules.floats import MATRIX_COLUMNS
from nos_repro.rules.tree import Expr, Unary

if TYPE_CHECKING:
    from torch import Tensor

Tensors: TypeAlias = "tuple[Tensor, ...] | list[Tensor]"
Function: TypeAlias = str | Callable[..., Any]
"""A function, or the name of one of torch's: "torch.exp"."""
Rewrites: TypeAlias = Mapping[str, Callable[[Unary, float | None], Expr]]
"""By the name of an inner function: from its node and the outer function's constant, the tree of
the outer function applied to that node."""

Reads = Literal["value", "size", "sign"]
Scope = Literal["element", "tensor", "matrix"]
"""What an element of a function's value depends on: on one element of its argument, or on all of
those of a tensor, or of a matrix. The papers' functions are all of elements."""
UnaryAlgebra = Literal[
    "opaque",  # nothing is known
    "even",  # f(-x) = f(x)
    "odd",  # f(-x) = -f(x)
    "multiplicative",  # f(x * y) = f(x) * f(y)
    "exponential",  # f(x + y) = f(x) * f(y), the base is f(1)
    "logarithmic",  # f(x * y) = f(x) + f(y)
]
BinaryAlgebra = Literal["opaque", "sum", "difference", "product", "quotient", "power"]


@dataclass(frozen=True, eq=False)
class OperandRow:
    """An input of a rule.

    meaning: what it is, in words.
    definition: the tree that it abbreviates.
    power: it is the bias-corrected running average of this power of the gradient; 0: of none.
    std: the standard deviation of normal noise: a function of the step, or constant.
    decay: f(elapsed steps, total steps); it keeps its last value once the training is over.
    source: its `decay` (in `elapsed` and `total_steps`) or `std` (in `t`) in an exported file.
    nonnegative: it is never below 0.
    token: whether a search space may name it.
    counts: it is the number of a parameter's update: 1, 2, ...
    """

    display: ClassVar[tuple[str, ...]] = (
        "latex", "meaning", "source", "nonnegative", "aliases", "token",
    )  # fmt: skip
    """The fields that no execution reads: they print and compare."""

    name: str
    latex: str
    meaning: str
    definition: Expr | None = None
    power: int = 0
    std: float | Callable[[int], float] | None = None
    decay: Callable[[int, int], float] | None = None
    source: str = ""
    reads_weights: bool = False
    nonnegative: bool = False
    aliases: tuple[str, ...] = ()
    token: bool = True
    counts: bool = False

    @property
    def random(self) -> bool:
        """Whether it draws random numbers."""
        return self.std is not None

    @property
    def needs_total_steps(self) -> bool:
        """Whether it is a decay that ends with the training."""
        return self.decay is not None

    def std_at(self, step: int) -> float:
        """The standard deviation of its noise at a step; the first update is step 0."""
        assert self.std is not None, self.name
        return self.std(step) if callable(self.std) else self.std

    def decay_at(self, step: int, total_steps: int) -> float:
        """The decay at a step: the first update is step 0; past the last step it stays at f(T)."""
        assert self.decay is not None, self.name
        return self.decay(min(step, total_steps), total_steps)


@dataclass(frozen=True, eq=False)
class UnaryRow:
    """A function of one tensor and, if `parameter` names one, of a constant.

    latex: `{x}` is the argument, `{X}` the argument in brackets if it is a sum, `{p}` the constant.
    does: the specification, as `function`. None for `drop`: its random numbers come from outside,
        from the optimizer's generator.
    edge: what it does outside its natural domain.
    does_on_lists: the same on a list of tensors, as `foreach`.
    source: a call in an exported file, such as `torch.clamp({x}, -{p}, {p})`; by default torch's
        function by its name.
    word: the name of its value there, by default its own name.
    reads: what it depends on: the whole argument, |x| only, or the sign only.
    costly: whether the fused execution computes its values ahead if there are only three.
    algebra, of, nonnegative: what the normal form knows about it: its law; what it becomes around
        other functions, by their names (log of exp(x) is x); whether it is never below 0.
    on_numbers: the same for Python's floats, for who has no torch yet.
    parameter_range: the open interval in which the constant must lie.
    constants: those that tokens may name (`clip1e-4`).
    token: whether a search space may name it.
    scope: what an element of its value depends on. A function of a tensor sees the elements in the
        last dimension, one of a matrix sees rows and columns in the last two.
    definition: the tree that it abbreviates, from its argument and its constant.
    recurrence: it keeps a state, whose new value is this tree of the old one, of the argument and
        of the constant; `definition` is then its own value, from the new state and the constant.
    on_row: what a function of a tensor does on its elements as Python's floats, for who has no
        torch yet; a matrix has rows of MATRIX_COLUMNS.
    """

    display: ClassVar[tuple[str, ...]] = (
        "latex", "edge", "source", "word", "algebra", "of", "nonnegative", "on_numbers",
        "constants", "token", "on_row",
    )  # fmt: skip
    """The fields that no execution reads: they print and compare."""

    name: str
    latex: str
    does: Function | None
    edge: str
    does_on_lists: Function | None = None
    source: str = ""
    word: str = ""
    reads: Reads = "value"
    costly: bool = False
    algebra: UnaryAlgebra = "opaque"
    of: Rewrites | None = None
    nonnegative: bool | Literal["where x is"] = False
    on_numbers: Callable[..., float] | None = None
    parameter: str | None = None
    parameter_range: tuple[float, float] = (-math.inf, math.inf)
    constants: tuple[float, ...] = ()
    token: bool = True
    scope: Scope = "element"
    definition: Callable[[Expr, float], Expr] | None = None
    recurrence: Callable[[Expr, Expr, float], Expr] | None = None
    on_row: Callable[[Sequence[float]], list[float]] | None = None

    @property
    def random(self) -> bool:
        """Whether it draws random numbers."""
        return self.does is None and self.definition is None

    @property
    def pointwise(self) -> bool:
        """Whether it is a function of numbers: of one element, at one step."""
        return self.scope == "element" and self.definition is None

    @cached_property
    def function(self) -> Callable[..., Tensor] | None:
        return None if self.does is None else _find(self.does)

    @cached_property
    def foreach(self) -> Callable[..., Tensors] | None:
        return None if self.does_on_lists is None else _find(self.does_on_lists)

    def on_float(self, x: float, parameter: float | None = None) -> float:
        """Its value for a number, in double precision."""
        extra = () if parameter is None else (parameter,)
        return self.on_floats([x], *extra)[0]

    def on_floats(self, x: Sequence[float], *parameter: float) -> list[float]:
        """Its values for numbers, in double precision."""
        if self.on_numbers is not None:
            return [self.on_numbers(value, *parameter) for value in x]
        assert self.function is not None, self.name
        values: list[float] = self.function(_doubles(x), *parameter).tolist()
        return values

    def on_elements(self, x: Sequence[float]) -> list[float]:
        """Its values for the elements of one tensor, in double precision."""
        if self.on_row is not None:
            return self.on_row(x)
        assert self.function is not None, self.name
        shape = (-1, MATRIX_COLUMNS) if self.scope == "matrix" else (-1,)
        values: list[float] = self.function(_doubles(x).view(shape)).view(-1).tolist()
        return values


@dataclass(frozen=True)
class Infix:
    """How tightly an operator binds, and how tightly an argument must bind to need no brackets."""

    precedence: int
    left: int
    right: int


@dataclass(frozen=True, eq=False)
class BinaryRow:
    """A function of two tensors.

    latex: `{x}` and `{y}` are the arguments, `{X}` and `{Y}` in brackets where `infix` needs them,
        `{base}` is x as the base of a power.
    infix: how the operator binds; a row without it is written as a call, `max(x, y)`. An operator's
        function must accept a number for one of the tensors; a call's need not.
    adds_delta: the second argument is y + DELTA.
    The other fields are as in `UnaryRow`.
    """

    display: ClassVar[tuple[str, ...]] = (
        "latex", "edge", "source", "word", "algebra", "on_numbers", "token",
    )  # fmt: skip
    """The fields that no execution reads: they print and compare."""

    name: str
    latex: str
    does: Function
    edge: str
    infix: Infix | None = None
    does_on_lists: Function | None = None
    source: str = ""
    word: str = ""
    costly: bool = False
    algebra: BinaryAlgebra = "opaque"
    adds_delta: bool = False
    on_numbers: Callable[..., float] | None = None
    token: bool = True

    @cached_property
    def function(self) -> Callable[..., Tensor]:
        return _find(self.does)

    @cached_property
    def foreach(self) -> Callable[..., Tensors] | None:
        return None if self.does_on_lists is None else _find(self.does_on_lists)

    def on_floats(self, x: Sequence[float], y: Sequence[float]) -> list[float]:
        """Its values for pairs of numbers, in double precision."""
        if self.on_numbers is not None:
            return [self.on_numbers(*pair) for pair in zip(x, y, strict=True)]
        values: list[float] = self.function(_doubles(x), _doubles(y)).tolist()
        return values


def _doubles(values: Sequence[float]) -> Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def _find(function: Function) -> Callable[..., Any]:
    if not isinstance(function, str):
        return function
    import torch

    found: Callable[..., Any] = getattr(torch, function.removeprefix("torch."))
    return found
