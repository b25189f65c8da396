"""Which known optimizers a rule equals, up to a positive constant factor (`known.KNOWN`).

A name is given only if two ways agree that are independent of each other: algebra, which also finds
the factor and the optimizer's constants, and numbers, which compare the two rules as they are
written on random operands in float64. So a mistake in one gives no false name.

A rule of the second edition has to agree in its fingerprint and, since rules that differ little
may share that, over longer runs on other gradients.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import TypeAlias

from nos_repro.rules.fingerprint import BETAS, stepped, values_in_probe
from nos_repro.rules.known import KNOWN, KNOWN_2, KnownOptimizer, shown
from nos_repro.rules.multiplied import basic_operands, constants, factor, multiplied_out, shape
from nos_repro.rules.parse import parse
from nos_repro.rules.primitives import BINARY, DELTA, OPERANDS, UNARY, operand_row
from nos_repro.rules.printing import print_number
from nos_repro.rules.rule import Rule
from nos_repro.rules.states import nodes
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

NO_NUMBERS = "names what others call a rule (experiments.digest)"

Values: TypeAlias = Sequence[float]

SEEDS = range(4)
ELEMENTS = 64
UPDATES = 40
"""Of a run of two rules that keep states."""
ZEROS = 4
"""Elements of which one operand or another is exactly 0."""
AGREE = 3e-6
"""Numbers agree to this share: x / 0.01, with delta, differs from 100 * x by 1e-6 of it."""
NOTHING = 1e-12
"""A number below this share of the upper quartile is what rounding leaves of 0."""
GENERIC = {"k": 0.3719, "j": 0.2347}
MOST_CONSTANTS = 40


@dataclass(frozen=True)
class Equality:
    """A rule equals ``factor`` times the update of ``known`` with these ``values`` of its
    constants, its rate multiplied by the ``decays``."""

    known: KnownOptimizer
    factor: float
    values: tuple[float, ...] = ()
    decays: tuple[str, ...] = ()

    @property
    def options(self) -> str:
        """The optimizer's options, in words."""
        return self.known.options(*self.values)

    def __str__(self) -> str:
        """`2 x cautious SGD (2411.16085), without its rescaling`."""
        times = "" if math.isclose(self.factor, 1, rel_tol=1e-9) else f"{shown(self.factor)} x "
        rate = f"its rate times {' * '.join(self.decays)}" if self.decays else ""
        named = f"{times}{self.known.name} ({self.known.source})"
        return ", ".join(filter(None, (named, self.options, rate, self.known.but)))


def equalities(rule: Rule) -> list[Equality]:
    """The known optimizers that a rule equals, in the table's order.

    A rule of the second edition is compared with the usual constants alone.
    """
    if rule.language != 1:
        return [
            Equality(known, c) for name, known in KNOWN_2.items()
            if (c := _factor_2(rule, name)) is not None
        ]  # fmt: skip
    steady, decays = _without_decays(rule)
    if steady is None:
        return []
    whole = multiplied_out(steady)
    reads, form = basic_operands(whole), shape(whole)
    found = []
    for known in KNOWN.values():
        if (reads, form) != _outline(known.name):
            continue
        for values in _possible(known, whole):
            update = _update(known, values)
            c = factor(whole, multiplied_out(update))
            if c is not None and _agree(steady, Binary("*", Number(c), update)):
                found.append(Equality(known, c, values, decays))
                break
    return found


def _without_decays(rule: Rule) -> tuple[Expr | None, tuple[str, ...]]:
    """The rule without the decays that multiply all of it, and these; None if it has others."""
    decays = tuple(row.name for row in rule.operands if row.needs_total_steps)
    if not decays:
        return rule.expr, ()
    steady = _at_one(rule.expr, decays)
    again = reduce(lambda x, name: Binary("*", Operand(name), x), decays, steady)
    c = factor(multiplied_out(rule.expr), multiplied_out(again))
    alike = c is not None and math.isclose(c, 1, rel_tol=1e-9) and _agree(rule.expr, again)
    return (steady if alike else None), decays


def _at_one(expr: Expr, names: tuple[str, ...]) -> Expr:
    match expr:
        case Operand(name) if name in names:
            return Number(1.0)
        case Unary(function, x, parameter):
            return Unary(function, _at_one(x, names), parameter)
        case Binary(function, x, y):
            return Binary(function, _at_one(x, names), _at_one(y, names))
        case _:
            return expr


@cache
def _second(name: str) -> Rule:
    """A known optimizer of the second edition, in normal form."""
    return Rule.parse(KNOWN_2[name].text, language=2).normal()


def _factor_2(rule: Rule, name: str) -> float | None:
    """The positive c by which a rule of the second edition is c times a known optimizer."""
    normal, known = rule.normal(), _second(name)
    mine, theirs = (values_in_probe(each.expr, each.states) for each in (normal, known))
    at = max(range(len(theirs)), key=lambda place: abs(theirs[place]))
    c = mine[at] / theirs[at]
    if not 0 < c < math.inf:
        return None
    c = float(f"{c:.12g}")
    scaled = Rule(Binary("*", Number(1 / c), normal.expr), normal.states)
    if scaled.fingerprint() != known.fingerprint() or not _run_alike(scaled, known):
        return None
    return c


def _run_alike(one: Rule, other: Rule) -> bool:
    """Whether two rules of the second edition make the same updates over longer runs."""
    read = {node.function for node in nodes(one.expr, one.states) if isinstance(node, Unary)}
    runs = [_gradients(random.Random(seed)) for seed in SEEDS]
    if "mean" in read and "orthogonal" not in read:
        runs.append(_mostly_against(random.Random(0)))
    return all(_all_same(_updates(one, run), _updates(other, run)) for run in runs)


def _gradients(source: random.Random) -> list[Values]:
    """The gradients of a run, in which each element keeps its size."""
    sizes = [10 ** source.uniform(-4, 1) for _ in range(ELEMENTS)]
    return [[source.gauss(0, 1) * size for size in sizes] for _ in range(UPDATES)]


def _mostly_against(source: random.Random) -> list[Values]:
    """Gradients of which at last only one in 2,048 agrees with those before."""
    first = [source.gauss(0, 1) for _ in range(2048)]
    return [first, first, [first[0], *(-0.5 * x for x in first[1:])]]


def _updates(rule: Rule, gradients: Sequence[Values]) -> Values:
    """What a rule makes of gradients; weights and noise are random."""
    size = len(gradients[0])
    averages = {name: _averages(gradients, row.power, BETAS[name])
                for name, row in OPERANDS.items() if row.power}  # fmt: skip

    def operand(name: str, step: int) -> Values | None:
        if name == "step":
            return [step + 1.0] * size
        if name == "g" or name in averages:
            return averages.get(name, gradients)[step]
        if operand_row(name).definition is not None:
            return None
        source = random.Random(f"{name} {step}")
        return [source.gauss(0, 1) for _ in range(size)]

    return stepped(rule.expr, rule.states, len(gradients), size, operand)


def _averages(gradients: Sequence[Values], power: int, beta: float) -> list[Values]:
    """The bias-corrected running averages of a power of the gradients."""
    average = [0.0] * len(gradients[0])
    found: list[Values] = []
    for step, g in enumerate(gradients, start=1):
        average = [beta * a + (1 - beta) * x**power for a, x in zip(average, g, strict=True)]
        found.append([a / (1 - beta**step) for a in average])
    return found


@cache
def _outline(name: str) -> tuple[frozenset[str], str]:
    """What a known optimizer reads, and its shape."""
    known = KNOWN[name]
    whole = multiplied_out(_update(known, [GENERIC[each] for each in known.constants]))
    return basic_operands(whole), shape(whole)


def _possible(known: KnownOptimizer, whole: Expr) -> list[tuple[float, ...]]:
    """The values that the optimizer's constants may have in a rule that is multiplied out."""
    most = 1.0 if "drop" in known.text else math.inf
    some = dict.fromkeys(float(f"{c:.12g}") for c in constants(whole) if 0 < c < most)
    few = list(some)[:MOST_CONSTANTS]
    return list(itertools.product(few, repeat=len(known.constants)))


def _update(known: KnownOptimizer, values: Sequence[float]) -> Expr:
    """The optimizer's update with these constants."""
    words = dict(zip(known.constants, map(print_number, values), strict=True))
    return parse(re.sub(r"\b[a-z]\w*", lambda word: words.get(word[0], word[0]), known.text))


def _agree(expr: Expr, other: Expr) -> bool:
    """Whether two rules, as they are written, have the same values for random operands."""
    names = basic_operands(expr) | basic_operands(other)
    for seed in SEEDS:
        given = _operands(sorted(names), random.Random(seed))
        one, two = (_values(each, given, seed) for each in (expr, other))
        if not _all_same(one, two) or sum(map(math.isfinite, one)) < ELEMENTS / 2:
            return False
    return True


def _all_same(one: Values, two: Values) -> bool:
    sizes = sorted(abs(value) for value in one if math.isfinite(value))
    nothing = NOTHING * sizes[3 * len(sizes) // 4] if sizes else 0.0
    return all(
        math.isclose(a, b, rel_tol=AGREE, abs_tol=nothing) or (math.isnan(a) and math.isnan(b))
        for a, b in zip(one, two, strict=True)
    )


def _operands(names: Sequence[str], source: random.Random) -> dict[str, Values]:
    """Values of every size for each operand, independent of each other."""
    given: dict[str, Values] = {}
    for name in names:
        row = operand_row(name)
        values = [source.gauss(0, 1) * 10 ** source.uniform(-4, 1) for _ in range(ELEMENTS)]
        if row.needs_total_steps:
            values = [source.uniform(0.05, 1) for _ in values]
        for at in source.sample(range(ELEMENTS), ZEROS):
            values[at] = 0.0
        given[name] = [abs(x) for x in values] if row.nonnegative else values
    return given


def _values(expr: Expr, given: Mapping[str, Values], seed: int) -> Values:
    """The rule's values, on Python's floats. The first drop of a rule drops what the first of
    another does, if their probabilities are the same."""
    seen: dict[Expr, Values] = {}
    count = itertools.count()

    def visit(node: Expr) -> Values:
        if node not in seen:
            seen[node] = compute(node)
        return seen[node]

    def compute(node: Expr) -> Values:
        match node:
            case Number(value):
                return [value] * ELEMENTS
            case Operand(name):
                definition = operand_row(name).definition
                return given[name] if definition is None else visit(definition)
            case Unary(function, x, parameter):
                row, argument = UNARY[function], visit(x)
                if row.random:
                    draw = random.Random(f"{seed} {next(count)} {parameter}").random
                    return [0.0 if draw() < (parameter or 0.0) else value for value in argument]
                return row.on_floats(argument, *(() if parameter is None else (parameter,)))
            case Binary(function, x, y):
                binary, left, right = BINARY[function], visit(x), visit(y)
                if binary.adds_delta:
                    right = [value + DELTA for value in right]
                return binary.on_floats(left, right)

    return visit(expr)
