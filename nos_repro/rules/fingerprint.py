"""The numeric fingerprint: a short hash of what a rule does in a fixed, seeded probe.

It finds rules that are the same function even where algebra does not show it. Some steps of
gradients, weights, averages, decays and noise are laid out one after the other, so that the rule is
evaluated once, on Python's floats; values are rounded to 6 digits before they are hashed. The
price: rules that differ by less than rounding everywhere in the probe count as equal.

A drop is seeded with its argument's values and its probability, so that commuted sums stay equal.
If one rule draws twice for the same values, the two draws differ, as they do in the program.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from nos_repro.rules.primitives import BINARY_2, DELTA, OPERANDS, binary_row, operand_row, unary_row
from nos_repro.rules.states import is_second, nodes, spelled_out
from nos_repro.rules.tree import (
    Binary,
    Expr,
    Number,
    Operand,
    States,
    Unary,
    new_value,
    old_value,
)

NO_NUMBERS = "compares rules (experiments.digest)"

SEED = 2017
ELEMENTS = 48
STEPS = (0, 137, 300, 611, 913, 996)  # of TOTAL_STEPS, a prime: no two decays agree on all of them
TOTAL_STEPS = 997
NUMBERS = range(1, 1 + len(STEPS))
"""The numbers of the probe's updates, which averages see one after the other."""
SCALES = (1e4, 1e-4)
"""How many times larger the gradients are beside, for rules that take the larger of two."""
BETAS = {"m": 0.9, "v": 0.999, "gamma": 0.999}  # the averages' decay rates
NEAR = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""How nearly some gradients cancel in m."""
DIGITS = 6
NEGLIGIBLE = 1e-12  # relative to the step's largest value; 1e-13 in absolute terms


Values: TypeAlias = Sequence[float]
"""All elements of the first step, then those of the next."""


def fingerprint(expr: Expr, states: States = ()) -> str:
    """16 hexadecimal digits; the same on every machine."""
    values = _rounded(values_in_probe(expr, states))
    read = list(nodes(expr, states))
    if Operand("step") in read:  # a rule may change after more updates than the probe has
        values += " " + _rounded(_by_step(expr, states, [1 + step for step in STEPS]))
    if any(isinstance(node, Binary) and node.function in BINARY_2 for node in read):
        # which of two is larger may never change among the probe's sizes
        for scale in SCALES:
            values += " " + _rounded(_by_step(expr, states, NUMBERS, scale))
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def values_in_probe(expr: Expr, states: States = ()) -> Values:
    """The update in the probe, as `evaluate` computes it on tensors."""
    if any(map(is_second, nodes(expr, states))):
        return _by_step(expr, states, NUMBERS)
    return _Evaluation(_operand, len(STEPS) * ELEMENTS, Counter()).visit(expr)


def _by_step(expr: Expr, states: States, numbers: Sequence[int], scale: float = 1.0) -> Values:
    """The same step by step, for rules that keep states; the steps have these numbers, and the
    gradients are so many times as large. The elements of a step are one tensor, or one matrix."""

    def operand(name: str, step: int) -> Values | None:
        if name == "step":
            return [float(numbers[step])] * ELEMENTS
        values = _operand(name)
        return values and _scaled(name, values[step * ELEMENTS : (step + 1) * ELEMENTS], scale)

    return stepped(expr, states, len(numbers), ELEMENTS, operand)


def stepped(
    expr: Expr,
    states: States,
    steps: int,
    size: int,
    operand: Callable[[str, int], Values | None],
) -> list[float]:
    """The updates of a rule with states, one after the other, each of ``size`` elements.

    operand: the values of an operand at a step, which counts from 0; None if it abbreviates others.
    """
    update, states = spelled_out(expr, states)
    memory: dict[str, Values] = {old_value(name).name: [0.0] * size for name, _ in states}
    drawn: Counter[str] = Counter()
    found: list[float] = []
    for step in range(steps):
        own = dict(memory)

        def values(name: str, own: dict[str, Values] = own, step: int = step) -> Values | None:
            return own[name] if name in own else operand(name, step)

        evaluation = _Evaluation(values, size, drawn)
        for name, tree in states:
            own[new_value(name).name] = evaluation.visit(tree)
            memory[old_value(name).name] = own[new_value(name).name]
        found += evaluation.visit(update)
    return found


class _Evaluation:
    """The values of trees on so many elements. drawn: how often each drop was drawn."""

    def __init__(
        self, operand: Callable[[str], Values | None], size: int, drawn: Counter[str]
    ) -> None:
        self._operand, self._size, self._drawn = operand, size, drawn
        self._seen: dict[Expr, Values] = {}

    def visit(self, node: Expr) -> Values:
        if node not in self._seen:
            self._seen[node] = self._compute(node)
        return self._seen[node]

    def _compute(self, node: Expr) -> Values:
        match node:
            case Number(value):
                return [value] * self._size
            case Operand(name):
                return self._operand(name) or self.visit(_definition(name))
            case Unary(function, x, parameter):
                row = unary_row(function)
                if row.random:
                    assert parameter is not None
                    return _drop(self.visit(x), parameter, self._drawn)
                if row.scope != "element":
                    return row.on_elements(self.visit(x))
                return row.on_floats(self.visit(x), *(() if parameter is None else (parameter,)))
            case Binary(function, x, y):
                binary, left, right = binary_row(function), self.visit(x), self.visit(y)
                if binary.adds_delta:
                    right = [value + DELTA for value in right]
                return binary.on_floats(left, right)


def _definition(name: str) -> Expr:
    definition = operand_row(name).definition
    assert definition is not None, f"no value for {name}"
    return definition


def _operand(name: str) -> Values | None:
    """The values of an operand; None if it abbreviates others."""
    row = operand_row(name)
    if row.needs_total_steps:
        return _each([row.decay_at(step, TOTAL_STEPS) for step in STEPS])
    return _probe().get(name)


def _scaled(name: str, values: Values, scale: float) -> Values:
    """The values of an operand where the gradients are so many times as large."""
    power = 1 if name == "g" else operand_row(name).power
    return values if scale == 1 or not power else [value * scale**power for value in values]


def _each(of_step: Values) -> Values:
    """One value for all elements of each step."""
    return [value for value in of_step for _ in range(ELEMENTS)]


@lru_cache(maxsize=1)
def _probe() -> dict[str, Values]:
    """Every operand but the decays.

    So that clips and divisions show, gradients and weights are of every size: some elements stay
    of one size, others change it at every step, a few nearly cancel in m. So that sign(0) shows,
    some are 0. Python's generator promises the same numbers in every version.
    """
    source = random.Random(SEED)

    def drawn(draw: Callable[[], float]) -> list[float]:
        return [draw() for _ in range(len(STEPS) * ELEMENTS)]

    def normal() -> list[float]:
        return drawn(lambda: source.gauss(0, 1))

    def of_every_size() -> list[float]:
        return drawn(lambda: source.gauss(0, 1) * 10 ** source.uniform(-7, 0.5))

    sizes = [10 ** (5 * i / (ELEMENTS - 1) - 5) for i in range(ELEMENTS)] * len(STEPS)
    steady = [x * size for x, size in zip(normal(), sizes, strict=True)]
    varied = of_every_size()
    rows = range(0, len(STEPS) * ELEMENTS, ELEMENTS)
    g = [x for at in rows for part in (steady, varied) for x in part[at : at + ELEMENTS : 2]]
    for element, part in zip(range(0, ELEMENTS, 8), NEAR, strict=True):
        g[ELEMENTS + element] = -BETAS["m"] * g[element] * (1 + part)
    for step, element in ((1, -1), (2, -1), (0, -2)):
        g[(step + 1) * ELEMENTS + element] = 0.0
    probe: dict[str, Values] = {"g": g, "w": of_every_size()}
    for name, row in OPERANDS.items():
        if row.random:
            stds = _each([row.std_at(step) for step in STEPS])
            probe[name] = [x * y for x, y in zip(stds, normal(), strict=True)]
    for name, beta in BETAS.items():
        probe[name] = _average(g, beta, OPERANDS[name].power)
    return probe


def _average(g: Values, beta: float, power: int) -> Values:
    """The bias-corrected running average of a power of the gradient."""
    average = [0.0] * ELEMENTS
    found: list[float] = []
    for step in range(len(STEPS)):
        powers = [math.prod([x] * power) for x in g[step * ELEMENTS : (step + 1) * ELEMENTS]]
        pairs = zip(average, powers, strict=True)
        average = [beta * before + (1 - beta) * now for before, now in pairs]
        found += [value / (1 - beta ** (step + 1)) for value in average]
    return found


def _drop(x: Values, probability: float, drawn: Counter[str]) -> Values:
    seed = f"{probability} {_rounded(x)}"
    source = random.Random(f"{seed} {drawn[seed]}")
    drawn[seed] += 1
    return [value if source.random() >= probability else 0.0 for value in x]


def _rounded(values: Values) -> str:
    """The values as text with 6 digits; NaN and infinities by name, negligible ones as 0."""
    texts = []
    for start in range(0, len(values), ELEMENTS):
        row = values[start : start + ELEMENTS]
        largest = max((abs(x) for x in row if math.isfinite(x)), default=0.0)
        least = max(1e-13, NEGLIGIBLE * largest)
        texts += ["0" if abs(x) < least else f"{x:.{DIGITS - 1}e}" for x in row]
    return " ".join(texts)
