"""Which sub-expressions the best rules share (000 sec. 4.3: "showing up in 5 of the top 10").

They are counted in normal forms, where commuted and otherwise equal rules are one. A normal form
is flat: `exp(ld) * sign(g) * sign(m)` has no node `sign(g) * sign(m)`. So every two factors of a
product, and every two terms of a sum, count as a sub-expression too; a power is one factor.
Numbers in front and signs do not count: `-0.5 * sign(g) * sign(m)` holds `sign(g) * sign(m)`, and
`2 * m - 2 * g` holds `g - m`.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nos_repro.rules.parse import parse
from nos_repro.rules.printing import print_expr
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import Space
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary, children

SIGNS = "sign(g) * sign(m)"
"""What the papers found to recur."""
DRAWS, SEED = 1000, 2017
TAIL = 0.025

ONE = Number(1.0)

Part = tuple[Expr, int]
"""A term and its sign, or a factor and its power: -1 below the line."""


@dataclass(frozen=True)
class Lift:
    """How often a sub-expression occurs: in ``best`` of the best rules, in ``all`` of all."""

    text: str
    best: int
    all: int
    lift: float
    """The share among the best over the share among all; NaN where it occurs nowhere."""


@dataclass(frozen=True)
class Shares:
    """The sub-expressions of rules, by their lift among the best ``best`` of ``all`` rules."""

    best: int
    all: int
    lifts: dict[str, Lift]

    def find(self, text: str) -> Lift:
        return self.lifts.get(text, Lift(text, 0, 0, math.nan))

    def top(self, number: int, least: int) -> list[Lift]:
        """The largest lifts of what occurs in ``least`` rules or more, and in one of the best."""
        often = [lift for lift in self.lifts.values() if lift.all >= least and lift.best]
        return sorted(often, key=lambda lift: (-lift.lift, -lift.best, lift.text))[:number]


def shares(ranked: Sequence[str], best: int) -> Shares:
    """Counts sub-expressions of rules in normal form, the best ones first: how many rules of the
    first ``best``, and of all, have each of them."""
    in_best: Counter[str] = Counter()
    in_all: Counter[str] = Counter()
    for number, rule in enumerate(ranked):
        found = subexpressions(parse(rule))
        in_all.update(found)
        if number < best:
            in_best.update(found)
    scale = len(ranked) / best if best else math.nan
    lifts = {
        text: Lift(text, in_best[text], count, in_best[text] / count * scale)
        for text, count in in_all.items()
    }
    return Shares(best, len(ranked), lifts)


@functools.cache
def uniform_share(space: Space, part: str) -> tuple[float, float]:
    """Which share of a space's strings write a rule that holds ``part``, a normal form, and its
    one-sided 97.5 % limit: from DRAWS uniform draws, refused rules included."""
    source = random.Random(SEED)
    needed = _averages(Rule.parse(part))
    drawn = (Rule.from_tokens(space.sample(source)) for _ in range(DRAWS))
    able = (rule for rule in drawn if needed <= _averages(rule))
    held = sum(part in subexpressions(rule.normal().expr) for rule in able)
    return held / DRAWS, count_at_most(held) / DRAWS


def _averages(rule: Rule) -> set[str]:
    return {row.name for row in rule.operands}


def count_at_most(seen: int) -> float:
    """The largest mean of a rare event's count that leaves ``seen`` or fewer with a probability of
    2.5 % (Poisson)."""
    low, high = 0.0, 4.0 * seen + 8
    while high - low > 1e-6 * high:
        mean = (low + high) / 2
        chance = math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1))
                           for k in range(seen + 1))  # fmt: skip
        low, high = (mean, high) if chance > TAIL else (low, mean)
    return high


def subexpressions(normal: Expr) -> set[str]:
    """The texts of a normal form's sub-expressions, numbers left out."""
    found: set[str] = set()
    _collect(normal, found)
    return found


def _collect(expr: Expr, found: set[str]) -> None:
    """Adds what ``expr`` holds, and ``expr`` itself without its sign and the number in front."""
    match expr:
        case Number():
            return
        case Operand(name):
            found.add(name)
        case Unary("neg", x):
            _collect(x, found)
        case Binary("+" | "-"):
            _collect_parts(list(_terms(expr, 1)), _sum, found)
        case Binary("*" | "/"):
            factors = [part for part in _factors(expr, 1) if not isinstance(part[0], Number)]
            _collect_parts(factors, _product, found)
        case _:
            found.add(print_expr(expr))
            for child in children(expr):
                _collect(child, found)


def _collect_parts(
    parts: Sequence[Part], joined: Callable[[Sequence[Part]], str], found: set[str]
) -> None:
    """Adds what the parts hold, every two of them, and all of them."""
    for part, _ in parts:
        _collect(part, found)
    found.update(map(joined, itertools.combinations(parts, 2)))
    if len(parts) > 2 or parts[0][1] < 0:
        found.add(joined(parts))


def _terms(expr: Expr, sign: int) -> Iterator[Part]:
    match expr:
        case Binary("+", x, y):
            yield from _terms(x, sign)
            yield from _terms(y, sign)
        case Binary("-", x, y):
            yield from _terms(x, sign)
            yield from _terms(y, -sign)
        case Unary("neg", x):
            yield from _terms(x, -sign)
        case _:
            yield expr, sign


def _factors(expr: Expr, power: int) -> Iterator[Part]:
    match expr:
        case Binary("*", x, y):
            yield from _factors(x, power)
            yield from _factors(y, power)
        case Binary("/", x, y):
            yield from _factors(x, power)
            yield y, -power
        case _:
            yield expr, power


def _sum(terms: Sequence[Part]) -> str:
    """A sum's text: a number in front, then by text; the first term positive, and the first that
    is no number with no number in front."""
    weighed = sorted(
        (_weigh(*part) for part in terms), key=lambda w: (w[1] != ONE, print_expr(w[1]))
    )
    scale = next((abs(weight) for weight, expr in weighed if expr != ONE), 1.0)
    if not all(math.isfinite(weight / scale) for weight, _ in weighed):
        scale = 1.0
    lead = math.copysign(scale, weighed[0][0])
    total, *others = [_weighted(weight / scale, expr) for weight, expr in weighed]
    for (weight, _), term in zip(weighed[1:], others, strict=True):
        total = Binary("+" if weight / lead > 0 else "-", total, term)
    return print_expr(total)


def _weighted(weight: float, expr: Expr) -> Expr:
    number = Number(float(f"{abs(weight):.12g}"))
    if expr == ONE:
        return number
    return expr if number == ONE else Binary("*", number, expr)


def _weigh(term: Expr, sign: int) -> tuple[float, Expr]:
    """A term as a number times the rest of it."""
    weight, rest = float(sign), []
    for base, power in _factors(term, 1):
        if isinstance(base, Number) and power > 0:
            weight *= base.value
        else:
            rest.append((base, power))
    return weight, _joined(rest)


def _product(factors: Sequence[Part]) -> str:
    return print_expr(_joined(factors))


def _joined(factors: Sequence[Part]) -> Expr:
    """A product in the normal form's order: what is divided by comes last."""
    above = [base for base, power in factors if power > 0]
    total = above[0] if above else ONE
    for base in above[1:]:
        total = Binary("*", total, base)
    for base in (base for base, power in factors if power < 0):
        total = Binary("/", total, base)
    return total
