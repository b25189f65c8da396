"""A program as readable statements: the arithmetic of the files that `export` writes.

A value that is read once is written where it is read; one that is read more often gets a name, and
so does part of an expression that would not fit on a line. Every operation of the reference
execution stays as it is, scalars in double precision included, so that the numbers are the same,
bit for bit.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace

import torch

from nos_repro.optim.program import AVERAGES, STATE, STD, Argument, Instruction, Program
from nos_repro.rules.primitives import (
    ATOM,
    BINARY,
    BINARY_2,
    NEGATION,
    OPERANDS,
    UNARY,
    UNARY_2,
    operand_row,
)
from nos_repro.rules.printing import print_number
from nos_repro.rules.rows import BinaryRow, UnaryRow

WIDTH = 72  # of an expression, so that a statement stays within 100 columns

WORDS = {"fill": "constant", "normal": "gauss"}  # names for values that no primitive makes
POWERS = {1: "g", 2: "g2", 3: "g3"}
KNOWN = {"g * g": "g2", "g2 * g": "g3"}
NEVER_NEGATIVE = {
    name for row in OPERANDS.values() if row.nonnegative for name in (row.name, f"{row.name}_hat")
}
NOISES = {row.std: row.name for row in OPERANDS.values() if isinstance(row.std, float)}
AGREEMENT = ("sign_g", "sign_m")


@dataclass(frozen=True)
class _Value:
    """An expression: how tightly it binds (see rules/printing.py), and a name for it."""

    source: str
    binds: int
    word: str

    @property
    def named(self) -> bool:
        return self.source.isidentifier()

    def within(self, least: int) -> str:
        return self.source if self.binds >= least else f"({self.source})"


def update_statements(program: Program) -> list[str]:
    """The statements that compute the update from g, w and what is kept, and store it in p.

    They read the `state`, the `group` and, where the rule draws, `dtype` and the parameter's
    `number`.
    """
    writer = _Writer(program)
    writer.averages()
    writer.states()
    writer.scalars()
    for line in program.once:
        writer.add(line, scalar=True)
    if program.sites:
        writer.lines += ['seed, places = group["seed"], element_places(w)']
    if _uncorrected(program):
        writer.lines += ["# a sign needs no bias correction, which is a positive factor"]
    for line in program.body:
        writer.add(line, scalar=False)
    new = [
        f'state["{name}"].copy_({writer.values[value].source})' for name, value in program.states
    ]
    update = f"update = {writer.values[program.update].source}"
    # the update may be the old value of a state
    return [*writer.lines, update, 'p.copy_(w - group["lr"] * update)', *new]


def reads_step(program: Program) -> bool:
    """Whether it depends on the optimizer's step count: draws and decays do."""
    return bool(program.sites or program.decays)


def _uncorrected(program: Program) -> bool:
    """Whether an average is read without its bias correction, as happens under signs."""
    return any(
        a in program.averages and line.arguments[1:] != (f"correction_{a}",)
        for line in program.body
        for a in line.arguments
    )


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.lines: list[str] = []
        inputs = ["g", "w", *program.kept, *program.scalar_inputs]
        self.values = {name: _Value(name, ATOM, name) for name in inputs}
        self.values["step"] = _Value("steps", ATOM, "steps")
        self._stored = {x: f"new_{name.removeprefix(STATE)}" for name, x in program.states}
        self._simple = {*inputs, *KNOWN.values()}
        self._simple |= {name for name, row in OPERANDS.items() if row.random}
        self._simple |= {f"{name}_hat" for name in AVERAGES}
        self._taken: set[str] = set()
        self._kept: dict[Instruction, str] = {}
        lines = (*program.once, *program.body)
        self._uses = Counter(a for line in lines for a in line.arguments)
        one = len(program.averages) == 1
        self._betas = {name: "beta" if one else f"beta_{name}" for name in program.averages}

    def averages(self) -> None:
        """Writes the moving averages, which include this step's gradient."""
        program = self.program
        if program.averages:
            option = "beta" if len(self._betas) == 1 else "betas"
            self.lines += [f'{", ".join(self._betas.values())} = group["{option}"]']
            kept = ", ".join(f'state["{name}"]' for name in program.averages)
            self.lines += [f"{', '.join(program.averages)} = {kept}"]
        for name, beta in self._betas.items():
            power = OPERANDS[name].power
            if power >= 2:
                self._define("g2", "g * g")
            if power == 3:
                self._define("g3", "g2 * g")
            self.lines += [f"{name}.copy_({beta} * {name} + (1 - {beta}) * {POWERS[power]})"]
        if program.counts:
            self.lines += ['state["step"] = steps = state["step"] + 1']

    def states(self) -> None:
        """Writes the old values of the states that the rule names."""
        self.lines += [f'{name} = state["{name}"]' for name, _ in self.program.states]

    def scalars(self) -> None:
        """Writes the values that are the same for every element."""
        program = self.program
        if "eps" in program.scalar_inputs:
            self.lines += ['eps = group["eps"]']
        if program.decays:
            self.lines += ['t, total_steps = group["t"], group["total_steps"]']
            self.lines += ["elapsed = min(t, total_steps)"]
            self.lines += [f"{name} = {operand_row(name).source}" for name in program.decays]
        elif reads_step(program):
            self.lines += ['t = group["t"]']
        for name in program.scalar_inputs:
            if name.endswith(STD):
                self.lines += [f"{name} = {operand_row(name.removesuffix(STD)).source}"]

    def add(self, line: Instruction, *, scalar: bool) -> None:
        """Adds one instruction: kept until it is read, or written under a name."""
        if line.function == "drop":
            self._keep(line)
        render = self._scalar if scalar else self._tensor
        value = render(line)
        while (len(value.source) > WIDTH or value.source.startswith("-(-")) and self._shorten(line):
            value = render(line)
        if value.source in KNOWN:
            self._define(KNOWN[value.source], value.source)
            value = _Value(KNOWN[value.source], ATOM, KNOWN[value.source])
        self.values[line.result] = value
        own_line = value.word in self._simple or (scalar and value.source.startswith("float("))
        if line.result in self._stored:  # all are computed before the first one is stored
            self.values[line.result] = replace(value, word=self._stored[line.result])
            own_line = True
        if self._uses[line.result] > 1 or own_line:
            self._name(line.result)

    def _tensor(self, line: Instruction) -> _Value:
        word = self._word(line)
        arguments = [self._value(a) for a in line.arguments]
        match line.function, arguments:
            case "fill", [x]:
                return _Value(f"torch.full_like(g, {x.source})", ATOM, word)
            case "normal", _:
                return _Value(f"normal(places, {_key(line)}, dtype)", ATOM, word)
            case "drop", [x]:
                return _Value(f"torch.where({self._kept[line]}, {x.source}, 0.0)", ATOM, word)
            case "/", [average, divisor] if divisor.source.startswith("correction_"):
                source = f"{average.source} / (1 - {self._betas[average.source]}**steps)"
                return _Value(source, _binds(BINARY["/"]), word)
            case "/", [x, y] if self._is_scalar(line.arguments[0]) and x.source != "1":
                # `2 / tensor` is 2 * tensor.reciprocal(), rounded twice
                return _Value(f"torch.div({x.source}, {y.source})", ATOM, word)
            case _:
                return _Value(*_expression(line, arguments), word)

    def _scalar(self, line: Instruction) -> _Value:
        """Python's floats suffice for + - *; others must not raise at an edge, as `math` does."""
        word = self._word(line)
        arguments = [self._float(a) for a in line.arguments]
        if line.function == "neg" and isinstance(line.arguments[0], float):
            return self._float(-line.arguments[0])
        if line.function in ("+", "-", "*", "neg"):
            return _Value(*_expression(line, arguments), word)
        doubles = [_Value(f"double({x.source})", ATOM, x.word) for x in arguments]
        return _Value(f"float({_expression(line, doubles)[0]})", ATOM, word)

    def _value(self, a: Argument) -> _Value:
        if isinstance(a, str):
            return self.values[a]
        return _Value(print_number(a), ATOM if a >= 0 else NEGATION, "constant")

    def _float(self, a: Argument) -> _Value:
        """A scalar 0 is written as 0.0: Python's integers have no negative zero."""
        if isinstance(a, str):
            return self.values[a]
        return _Value(repr(a), ATOM if math.copysign(1, a) > 0 else NEGATION, "constant")

    def _is_scalar(self, a: Argument) -> bool:
        return isinstance(a, float) or a in self.program.scalars

    def _word(self, line: Instruction) -> str:
        words = tuple(self._value(a).word for a in line.arguments)
        match line.function, line.arguments:
            case "*", (_, std) if words[0] == WORDS["normal"]:
                return std.removesuffix(STD) if isinstance(std, str) else NOISES[std]
            case "/", (str(average), str(divisor)) if divisor == f"correction_{average}":
                return f"{average}_hat"
            case "+", (_, "eps"):
                return "divisor"
            case "*", _ if words == AGREEMENT:
                return "agreement"
            case function, (_,) if words[0] in self._simple and function != "fill":
                return f"{_word(function)}_{words[0]}"
            case function, _:
                return _word(function)

    def _shorten(self, line: Instruction) -> bool:
        """Gives the longest argument a name; False if all have one."""
        names = [a for a in line.arguments if isinstance(a, str) and not self.values[a].named]
        if names:
            self._name(max(names, key=lambda a: len(self.values[a].source)))
        return bool(names)

    def _name(self, result: str) -> None:
        value = self.values[result]
        if not value.named:
            name = self._free(value.word)
            self._define(name, value.source)
            self.values[result] = _Value(name, ATOM, name)

    def _keep(self, line: Instruction) -> None:
        assert line.parameter is not None
        name = self._free("kept")
        probability = print_number(line.parameter)
        self._define(name, f"keep(places, {_key(line)}, {probability})")
        self._kept[line] = name

    def _define(self, name: str, source: str) -> None:
        if name not in self._taken:
            self._taken.add(name)
            self.lines.append(f"{name} = {source}")

    def _free(self, word: str) -> str:
        name, n = word, 2
        while name in self._taken:
            name, n = f"{word}_{n}", n + 1
        return name


def _key(line: Instruction) -> str:
    return f"make_key(seed, t, number, {line.site})"


def _row(function: str) -> UnaryRow | BinaryRow | None:
    first = UNARY.get(function) or BINARY.get(function)
    return first or UNARY_2.get(function) or BINARY_2.get(function)


def _word(function: str) -> str:
    row = _row(function)
    return WORDS[function] if row is None else row.word or row.name


def _binds(row: BinaryRow) -> int:
    return ATOM if row.infix is None else row.infix.precedence


def _call(row: UnaryRow | BinaryRow) -> str:
    """A function's call; by default under its name in torch."""
    if row.source:
        return row.source
    name = getattr(row.function, "__name__", "")
    assert getattr(torch, name, None) is row.function, f"the row of {row.name} needs a source"
    extra = ", {p}" if isinstance(row, UnaryRow) and row.parameter else ""
    return f"torch.{name}({{x}}{extra if isinstance(row, UnaryRow) else ', {y}'})"


def _is_word(value: _Value) -> bool:
    return re.fullmatch(r"\w+", value.source) is not None


def _expression(line: Instruction, arguments: list[_Value]) -> tuple[str, int]:
    """A function of the language in Python, and how tightly it binds."""
    row = _row(line.function)
    match row, arguments:
        case UnaryRow(name="neg"), [x]:
            return "-" + x.within(ATOM), NEGATION
        case UnaryRow(), [x]:
            absolute = row.reads == "size" and x.source not in NEVER_NEGATIVE
            source = f"torch.abs({x.source})" if absolute else x.source
            p = "" if line.parameter is None else print_number(line.parameter)
            return _call(row).format(x=source, p=p), ATOM
        case BinaryRow(name="**"), [x, y] if _is_word(x) and _is_word(y):
            return f"{x.source}**{y.source}", _binds(row)
        case BinaryRow(infix=infix), [x, y] if infix is not None and not row.source:
            source = f"{x.within(infix.left)} {row.name} {y.within(infix.right)}"
            return source, infix.precedence
        case BinaryRow(), [x, y]:
            return _call(row).format(x=x.source, y=y.source), ATOM
    raise AssertionError(line)
