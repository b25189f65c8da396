"""A rewriting for speed, used by the fused execution only: functions of an agreement of signs.

f(c * sign(x) * sign(y)) takes three values, f(c), f(-c) and f(0), which are scalars: they are
computed once per step, and an element only selects one. A carrier replaces the product of signs:
x where y > 0, -x where y < 0, else 0. It has the sign of sign(x) * sign(y), and is 0 for NaN too.
The value is exact, up to the last bit in which f of a scalar and f of a vector may differ. To this
end c is infinite, or 0, where it is so in the tensors' precision (`saturated`): 1e39 * sign(x) is
NaN at x = 0 in float32. And c is not multiplied with what may make it so: (1e38 * sign(x)) * 1e38
is 0 at x = 0.
"""

import math
from dataclasses import dataclass

from nos_repro.optim.program import Argument, Instruction, Program
from nos_repro.rules.primitives import BINARY, UNARY
from nos_repro.rules.rows import BinaryRow, UnaryRow

LARGEST = 1e30  # it and its inverse are numbers of float32
LARGEST_INPUT = 1e9  # of the scalars from outside: decays, corrections, standard deviations


@dataclass(frozen=True)
class _Form:
    """scale * sign(carriers[0]) * sign(carriers[1]) * ..."""

    scale: Argument
    carriers: tuple[str, ...] = ()
    largest: float = 1.0
    """How much the scale, or its inverse, can be; infinite if anything."""


def select_signs(program: Program) -> Program:
    """The same program, with `carry` and `select` where a function sees only signs."""
    rewriter = _Rewriter(program)
    for line in program.body:
        rewriter.add(line)
    return Program(
        once=tuple(rewriter.once),
        body=_needed(rewriter.body, program.results),
        update=program.update,
        averages=program.averages,
        sites=program.sites,
        states=program.states,
    )


class _Rewriter:
    def __init__(self, program: Program) -> None:
        self.once = list(program.once)
        self.body: list[Instruction] = []
        self._forms: dict[str, _Form] = {}
        self._inputs = set(program.scalar_inputs)
        self._scalars = {line.result for line in program.once} | self._inputs

    def add(self, line: Instruction) -> None:
        form = self._form(line)
        if form is not None:
            self._forms[line.result] = form
        if not self._select(line):
            self.body.append(line)

    def _form(self, line: Instruction) -> _Form | None:
        forms = [self._forms.get(a) if isinstance(a, str) else None for a in line.arguments]
        match line.function, forms:
            case "sign", _:
                (x,) = line.arguments
                assert isinstance(x, str)
                return _Form(1.0, (x,))
            case "neg", [_Form(scale, carriers, largest)]:
                return _Form(self._scalar("neg", scale), carriers, largest)
            case "*", [_Form() as x, _Form() as y]:
                return self._product(x, y)
            case "*", [_Form() as x, None] if self._is_scalar(line.arguments[1]):
                return self._product(x, self._scale(line.arguments[1]))
            case "*", [None, _Form() as y] if self._is_scalar(line.arguments[0]):
                return self._product(self._scale(line.arguments[0]), y)
        return None

    def _select(self, line: Instruction) -> bool:
        """Writes `select` if the line is a function of a form; False if it is not."""
        last = line.arguments[-1] if line.arguments else 0.0
        form = self._forms.get(last) if isinstance(last, str) else None
        if form is None:
            return False
        base: tuple[Argument, ...] = line.arguments[:-1]
        row: UnaryRow | BinaryRow | None = UNARY.get(line.function) or BINARY.get(line.function)
        if row is None or not row.costly or not all(map(self._is_scalar, base)):
            return False
        above, below, between = (
            self._scalar(line.function, *base, x, parameter=line.parameter)
            for x in (
                form.scale,
                self._scalar("neg", form.scale),
                self._scalar("*", form.scale, 0.0),  # NaN where the scale is infinite
            )
        )
        carrier = self._carrier(form.carriers, line.result)
        self.body.append(Instruction(line.result, "select", (carrier, above, below, between)))
        return True

    def _carrier(self, carriers: tuple[str, ...], result: str) -> str:
        x = carriers[0]
        for i, y in enumerate(carriers[1:]):
            name = f"{result}_{i}"
            self.body.append(Instruction(name, "carry", (x, y)))
            x = name
        return x

    def _scalar(self, function: str, *arguments: Argument, parameter: float | None = None) -> str:
        name = f"s{len(self.once)}"
        self.once.append(Instruction(name, function, arguments, parameter))
        self._scalars.add(name)
        return name

    def _product(self, x: _Form, y: _Form) -> _Form | None:
        """The product; None if it may be infinite, or 0, where its factors are not."""
        carriers, largest = x.carriers + y.carriers, x.largest * y.largest
        if x.scale == 1.0 or y.scale == 1.0:
            return _Form(y.scale if x.scale == 1.0 else x.scale, carriers, largest)
        if largest > LARGEST:
            return None
        return _Form(self._scalar("*", x.scale, y.scale), carriers, largest)

    def _scale(self, value: Argument) -> _Form:
        if isinstance(value, float):
            largest = max(abs(value), 1 / abs(value)) if value else 1.0
        else:
            largest = LARGEST_INPUT if value in self._inputs else math.inf
        return _Form(value if largest <= LARGEST else self._scalar("saturated", value), (), largest)

    def _is_scalar(self, value: Argument) -> bool:
        return isinstance(value, float) or value in self._scalars


def _needed(body: list[Instruction], results: tuple[str, ...]) -> tuple[Instruction, ...]:
    """The body without the lines that nothing reads any more."""
    wanted = set(results)
    kept: list[Instruction] = []
    for line in reversed(body):
        if line.result in wanted:
            kept.append(line)
            wanted.update(a for a in line.arguments if isinstance(a, str))
    return tuple(reversed(kept))
