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

from nos_repro.rules.primitives import BINARY, DELTA, OPERANDS, UNARY, operand_row
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

NO_NUMBERS = "compares rules (experiments.digest)"

SEED = 2017
ELEMENTS = 48
STEPS = (0, 137, 300, 611, 913, 996)  # of TOTAL_STEPS, a prime: no two decays agree on all of them
TOTAL_STEPS = 997
BETAS = {"m": 0.9, "v": 0.999, "gamma": 0.999}  # the averages' decay rates
NEAR = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""How nearly some gradients cancel in m."""
DIGITS = 6
NEGLIGIBLE = 1e-12  # relative to the step's largest value; 1e-13 in absolute terms


Values: TypeAlias = Sequence[float]
"""All elements of the first step, then those of the next."""


def fingerprint(expr: Expr) -> str:
    """16 hexadecimal digits; the same on every machine."""
    return hashlib.sha256(_rounded(_evaluated(expr)).encode()).hexdigest()[:16]


def _evaluated(expr: Expr) -> Values:
    """The update in the probe, as `evaluate` computes it on tensors."""
    seen: dict[Expr, Values] = {}
    drawn: Counter[str] = Counter()

    def visit(node: Expr) -> Values:
        if node not in seen:
            seen[node] = compute(node)
        return seen[node]

    def compute(node: Expr) -> Values:
        match node:
            case Number(value):
                return [value] * len(STEPS) * ELEMENTS
            case Operand(name):
                return _operand(name) or visit(_definition(name))
            case Unary(function, x, parameter):
                row = UNARY[function]
                if row.random:
                    assert parameter is not None
                    return _drop(visit(x), parameter, drawn)
                return row.on_floats(visit(x), *(() if parameter is None else (parameter,)))
            case Binary(function, x, y):
                binary, left, right = BINARY[function], visit(x), visit(y)
                if binary.adds_delta:
                    right = [value + DELTA for value in right]
                return binary.on_floats(left, right)

    return visit(expr)


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
