"""A rule as a straight-line program, which the three executions run.

Common subexpressions are computed once. Values that are the same for every element (numbers,
decays, bias corrections) are computed once per step, as Python floats. Only the averages that the
rule reads are kept, and a bias correction is left out where it changes nothing: under sign.

*Readings of the paper*: equal subtrees are one value, even if they draw: a drop that occurs twice
drops the same elements, and `noise - noise` is 0. Different subtrees draw independently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nos_repro.rules.primitives import (
    BINARY,
    BINARY_2,
    OPERANDS,
    UNARY_2,
    binary_row,
    find_operand,
    operand_row,
    unary_row,
)
from nos_repro.rules.states import kept, spelled_out
from nos_repro.rules.tree import Binary, Expr, Number, Operand, States, Unary, state_of

AVERAGES = tuple(name for name, row in OPERANDS.items() if row.power)
STATE = "state_"  # begins the name of a state
STD = "_std"  # ends the name of a noise's standard deviation
TENSOR_INPUTS = frozenset({"g", "w", *AVERAGES})

Argument: TypeAlias = str | float


@dataclass(frozen=True)
class Instruction:
    """`result = function(arguments)`; an argument is the name of a value, or a number.

    function: a unary or binary of the language, or one of
    `fill` (a tensor full of a scalar), `normal` (draws N(0, 1)), `drop`; `carry`, `select` and
    `saturated` (see ternary.py).
    site: which of the program's draws this is, for `normal` and `drop`.
    """

    result: str
    function: str
    arguments: tuple[Argument, ...]
    parameter: float | None = None
    site: int | None = None

    def __str__(self) -> str:
        extra = () if self.parameter is None else (self.parameter,)
        return f"{self.result} = {self.function}({', '.join(map(str, self.arguments + extra))})"


@dataclass(frozen=True, eq=False)
class Program:
    """`once` runs on floats once per step, `body` on every tensor; `update` is the body's result.

    Inputs of the body: g, w, the averages after their update (not corrected), the old values of the
    states, and scalars. `states`: for each state that the rule keeps, the body's result that is its
    new value.
    Inputs of `once`: `eps`, `step`, `{noise}_std`, `correction_{average}`, and the decays by name.
    """

    once: tuple[Instruction, ...]
    body: tuple[Instruction, ...]
    update: str
    averages: tuple[str, ...]
    sites: int
    states: tuple[tuple[str, str], ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """All that is kept for each element from update to update: averages, then states."""
        return (*self.averages, *(name for name, _ in self.states))

    @property
    def results(self) -> tuple[str, ...]:
        """The values that are read after the body: the update and the states' new values."""
        return (self.update, *(value for _, value in self.states))

    @cached_property
    def wholes(self) -> tuple[str, ...]:
        """The functions of whole tensors among its lines."""
        functions = dict.fromkeys(line.function for line in self.body)
        return tuple(f for f in functions if f in UNARY_2 and UNARY_2[f].scope != "element")

    @cached_property
    def of_matrices(self) -> tuple[str, ...]:
        """Those that only matrices have."""
        return tuple(f for f in self.wholes if UNARY_2[f].scope == "matrix")

    @cached_property
    def counts(self) -> bool:
        """Whether it depends on how many updates a parameter has seen."""
        return bool(self.corrections) or "step" in self.scalar_inputs

    @cached_property
    def scalars(self) -> tuple[str, ...]:
        """The names of the scalars that the body reads."""
        made = {line.result for line in self.body} | TENSOR_INPUTS | {s for s, _ in self.states}
        names = [a for line in self.body for a in line.arguments if isinstance(a, str)]
        return tuple(dict.fromkeys(name for name in names if name not in made))

    @cached_property
    def scalar_inputs(self) -> tuple[str, ...]:
        """The names of the scalars that come from outside."""
        made = {line.result for line in self.once}
        read = [a for line in self.once for a in line.arguments if isinstance(a, str)]
        return tuple(n for n in dict.fromkeys([*read, *self.scalars]) if n not in made)

    @cached_property
    def corrections(self) -> tuple[str, ...]:
        """The averages whose bias correction is needed somewhere."""
        return tuple(a for a in AVERAGES if f"correction_{a}" in self.scalar_inputs)

    @cached_property
    def decays(self) -> tuple[str, ...]:
        """The decay operands that it reads."""
        rows = map(find_operand, self.scalar_inputs)
        return tuple(row.name for row in rows if row is not None and row.needs_total_steps)

    @cached_property
    def last_uses(self) -> tuple[tuple[str, ...], ...]:
        """For every line of the body, the intermediate values that nothing reads after it."""
        made = {line.result for line in self.body}
        seen = set(self.results)
        dead: list[tuple[str, ...]] = []
        for line in reversed(self.body):
            names = [a for a in line.arguments if isinstance(a, str)]
            dead.append(tuple(n for n in dict.fromkeys(names) if n in made and n not in seen))
            seen.update(names)
        return tuple(reversed(dead))

    def __str__(self) -> str:
        new = [f"{name} <- {value}" for name, value in self.states]
        return "\n".join(map(str, [*self.once, *self.body, *new, f"update = {self.update}"]))


@cache
def lower(expr: Expr, states: States = ()) -> Program:
    """The program of a rule's tree and of the states that it names."""
    expr, states = spelled_out(expr, states)
    builder = _Builder()
    builder.keep(kept(expr, states))
    for name, tree in states:
        builder.new[name] = builder.visit(tree)
    value = builder.visit(expr)
    if builder.is_scalar(value):
        value = builder.emit("fill", value)
    assert isinstance(value, str)
    new = tuple((STATE + name, builder.stored(name)) for name in kept(expr, states))
    read = {a for line in builder.body for a in line.arguments} | {value}
    return Program(
        once=tuple(builder.once),
        body=tuple(builder.body),
        update=value,
        averages=tuple(a for a in AVERAGES if a in read),
        sites=builder.sites,
        states=new,
    )


class _Builder:
    """Collects lines; the same function with the same arguments is one line."""

    def __init__(self) -> None:
        self.once: list[Instruction] = []
        self.body: list[Instruction] = []
        self.sites = 0
        self._values: dict[tuple[object, ...], str] = {}
        self._draws: dict[Expr, str] = {}
        self._tensors = set(TENSOR_INPUTS)
        self.new: dict[str, Argument] = {}

    def keep(self, states: Sequence[str]) -> None:
        """Makes the old values of these states inputs."""
        self._tensors |= {STATE + name for name in states}

    def stored(self, state: str) -> str:
        """The new value of a state as a tensor of its own, which nothing that is stored before it
        overwrites."""
        value = self._filled(self.new[state])
        made = {line.result for line in self.body}
        stored = value if value in made else self.emit("*", value, 1.0)
        assert isinstance(stored, str)
        return stored

    def is_scalar(self, value: Argument) -> bool:
        return isinstance(value, float) or value not in self._tensors

    def emit(
        self,
        function: str,
        *arguments: Argument,
        parameter: float | None = None,
        site: int | None = None,
    ) -> str:
        key = (function, arguments, parameter, site)
        if key in self._values:
            return self._values[key]
        once = function not in ("fill", "normal", "drop") and all(map(self.is_scalar, arguments))
        lines, letter = (self.once, "s") if once else (self.body, "t")
        result = f"{letter}{len(lines)}"
        lines.append(Instruction(result, function, arguments, parameter, site))
        self._values[key] = result
        if not once:
            self._tensors.add(result)
        return result

    def visit(self, expr: Expr) -> Argument:
        match expr:
            case Number(value):
                return float(value)
            case Operand(name):
                return self._operand(expr, name)
            case Unary(function, x, parameter):
                row = unary_row(function)
                argument = self._up_to_scale(x) if row.reads == "sign" else self.visit(x)
                if row.random:
                    argument = self._filled(argument)
                    return self._draw(expr, "drop", argument, parameter=parameter)
                if row.scope != "element":
                    argument = self._filled(argument)
                return self.emit(function, argument, parameter=parameter)
            case Binary(function, x, y):
                binary, left, right = binary_row(function), self.visit(x), self.visit(y)
                if binary.adds_delta:
                    right = self.emit("+", right, "eps")
                if binary.infix is None and self.is_scalar(left) != self.is_scalar(right):
                    left, right = self._filled(left), self._filled(right)
                return self.emit(function, left, right)

    def _filled(self, value: Argument) -> Argument:
        """The value as a tensor: a scalar fills one."""
        return self.emit("fill", value) if self.is_scalar(value) else value

    def _operand(self, expr: Expr, name: str) -> Argument:
        if state := state_of(name):
            return STATE + state[0] if state[1] else self.new[state[0]]
        row = operand_row(name)
        if row.definition is not None:
            return self.visit(row.definition)
        if name in AVERAGES:
            return self.emit("/", name, f"correction_{name}")
        if row.std is not None:
            std = f"{name}{STD}" if callable(row.std) else row.std
            return self.emit("*", self._draw(expr, "normal"), std)
        return name

    def _up_to_scale(self, expr: Expr) -> Argument:
        """A value of the same sign: averages stay uncorrected, since the correction is positive."""
        match expr:
            case Operand(name) if name in AVERAGES:
                return name
            case Unary("neg", x):
                return self.emit("neg", self._up_to_scale(x))
            case _:
                return self.visit(expr)

    def _draw(
        self, expr: Expr, function: str, *arguments: Argument, parameter: float | None = None
    ) -> str:
        if expr not in self._draws:
            site, self.sites = self.sites, self.sites + 1
            self._draws[expr] = self.emit(function, *arguments, parameter=parameter, site=site)
        return self._draws[expr]


def scalar_inputs(
    program: Program,
    *,
    betas: Sequence[float],
    eps: float,
    t: int | Tensor,
    total_steps: int | None,
    updates: int | Tensor,
) -> dict[str, float | Tensor]:
    """The values of `program.scalar_inputs` at step t (the first update is step 0).

    updates: how many updates the averages have seen, this one included. Both are whole numbers, or
    tensors of one, and what depends on them is then a tensor on their device, of double precision.
    """
    values: dict[str, float | Tensor] = {}
    for name in program.scalar_inputs:
        if name == "eps":
            values[name] = eps
        elif name == "step":
            values[name] = updates if isinstance(updates, int) else updates.to(torch.float64)
        elif name.endswith(STD):
            std: Any = operand_row(name.removesuffix(STD)).std
            values[name] = std(t if isinstance(t, int) else t.to(torch.float64))
        elif name.startswith("correction_"):
            beta = betas[AVERAGES.index(name.removeprefix("correction_"))]
            values[name] = 1 - beta ** (
                updates if isinstance(updates, int) else updates.to(torch.float64)
            )
        else:
            assert total_steps is not None, name
            if isinstance(t, int):
                values[name] = operand_row(name).decay_at(t, total_steps)
            else:
                place = t.clamp(max=total_steps).view(1)
                values[name] = _decays(name, total_steps, t.device).index_select(0, place).view(())
    return values


@lru_cache(maxsize=16)
def _decays(name: str, total_steps: int, device: torch.device) -> Tensor:
    """A decay at every step of a training, for who may not call Python."""
    row = operand_row(name)
    values = [row.decay_at(t, total_steps) for t in range(total_steps + 1)]
    return torch.tensor(values, dtype=torch.float64, device=device)


def run_once(
    program: Program,
    inputs: Mapping[str, float | Tensor],
    dtype: torch.dtype = torch.float64,
) -> dict[str, float | Tensor]:
    """The scalars that a body in `dtype` reads; computed in double precision, as floats, or as
    tensors where an input is one."""
    if any(isinstance(x, Tensor) for x in inputs.values()):
        values = _values(program, inputs, dtype)
        return {name: values[name] for name in program.scalars}
    return _run_once(program, tuple(inputs.items()), dtype)


@lru_cache(maxsize=64)
def _run_once(
    program: Program, inputs: tuple[tuple[str, float], ...], dtype: torch.dtype
) -> dict[str, float | Tensor]:
    values = _values(program, dict(inputs), dtype)
    return {name: float(values[name]) for name in program.scalars}


def _values(
    program: Program, inputs: Mapping[str, float | Tensor], dtype: torch.dtype
) -> dict[str, float | Tensor]:
    """The inputs and the results of the lines of `once`."""
    values: dict[str, float | Tensor] = {**inputs}
    for line in program.once:
        arguments = [values[a] if isinstance(a, str) else a for a in line.arguments]
        if any(isinstance(x, Tensor) for x in arguments):
            values[line.result] = _once(line, arguments, dtype)
        else:
            made = [torch.tensor(x, dtype=torch.float64) for x in arguments]
            values[line.result] = float(_once(line, made, dtype))
    return values


def _once(line: Instruction, arguments: Sequence[Any], dtype: torch.dtype) -> Tensor:
    if line.function in BINARY or line.function in BINARY_2:
        row = binary_row(line.function)
        if row.infix is None:  # it takes tensors alone
            (device, *_) = (x.device for x in arguments if isinstance(x, Tensor))
            arguments = [torch.as_tensor(x, dtype=torch.float64, device=device) for x in arguments]
        return row.function(*arguments)
    if line.function == "saturated":
        (x,), rounded = arguments, arguments[0].to(dtype).double()
        return torch.where(rounded.isinf() | (rounded == 0), rounded, x)
    function = unary_row(line.function).function
    assert function is not None
    return function(*arguments, *(() if line.parameter is None else (line.parameter,)))
