"""Rules multiplied out, and compared up to a positive factor: for naming, never run.

The normal form groups what it need not multiply out. Here (1 + x) * g is g + x * g, sqrt(x)**2 is
x * sign(x), x * sign(x)**2 is x, clip(2 * x, p) is 2 * clip(x, p / 2), 2**x is exp(log(2) * x), and
v**0.25 is sqrt(sqrt(v)), drop(2 * x, p) is 2 * drop(x, p).
All of that holds for all finite numbers, zeros included.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache, reduce
from typing import TypeAlias

from nos_repro.rules.facts import is_nonnegative
from nos_repro.rules.normal import normal_form
from nos_repro.rules.primitives import operand_row
from nos_repro.rules.printing import print_expr
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary, children

NO_NUMBERS = "for naming (experiments.digest)"

Term: TypeAlias = tuple[float, Expr]
"""A coefficient and what it multiplies."""

MOST_TERMS = 32
PASSES = 6
LARGEST_POWER = 4
ROOTS = (0.25, 0.125)
CLOSE = 1e-9
"""The normal form rounds its numbers to 12 digits: two are equal if they agree to this share."""
ONE = Number(1.0)


@lru_cache(maxsize=1 << 12)
def multiplied_out(expr: Expr) -> Expr:
    """The rule as a sum of products."""
    expr = normal_form(expr)
    for _ in range(PASSES):
        before, expr = expr, normal_form(_spread(expr))
        if expr == before:
            break
    return _with_exponentials(expr)


def terms(expr: Expr) -> list[Term]:
    """A sum's terms, each as its coefficient and the rest."""
    match expr:
        case Binary("+", x, y):
            return [*terms(x), *terms(y)]
        case Binary("-", x, y):
            return [*terms(x), *((-c, rest) for c, rest in terms(y))]
        case Unary("neg", x):
            return [(-c, rest) for c, rest in terms(x)]
        case _:
            return [_split(expr)]


def factor(expr: Expr, other: Expr) -> float | None:
    """The positive c with expr = c * other, of two that are multiplied out; None if algebra sees
    none."""
    mine, theirs = (sorted(terms(each), key=_text_of_rest) for each in (expr, other))
    c = mine[0][0] / theirs[0][0] if theirs[0][0] else 0.0
    same = len(mine) == len(theirs) and all(
        _close(a, c * b) and _alike(x, y) for (a, x), (b, y) in zip(mine, theirs, strict=True)
    )
    return c if same and c > 0 else None


def shape(expr: Expr) -> str:
    """The rule without its numbers: rules that differ in their constants alone have one shape."""
    return " + ".join(sorted(_shape_of_rest(rest) for _, rest in terms(expr)))


def constants(expr: Expr) -> Iterator[float]:
    """What a rule of this shape may have been written with: its numbers, and in each sum those by
    one or two of them."""
    parts = terms(expr)
    coefficients = [c for c, _ in parts]
    pairs = map(sum, itertools.combinations_with_replacement(coefficients, 2))
    wholes = [1.0, *coefficients, *pairs]
    yield from (a / b for b in wholes for a in coefficients if b)
    for _, rest in parts:
        if isinstance(rest, Unary) and rest.parameter is not None:
            yield rest.parameter
        for part in children(rest):
            yield from constants(part)


def basic_operands(expr: Expr) -> frozenset[str]:
    """The operands that a tree reads, g and v for rmsprop."""
    if isinstance(expr, Operand):
        definition = operand_row(expr.name).definition
        return frozenset({expr.name}) if definition is None else basic_operands(definition)
    return frozenset().union(*map(basic_operands, children(expr)))


def _split(expr: Expr) -> Term:
    """The number in front of a product, and the product without it."""
    match expr:
        case Number(value):
            return value, ONE
        case Binary("*", x, y):
            c, rest = _split(x)
            return c, y if rest == ONE else Binary("*", rest, y)
        case Binary("/", x, y):
            c, rest = _split(x)
            return c, Binary("/", rest, y)
        case _:
            return 1.0, expr


def _spread(expr: Expr) -> Expr:
    match expr:
        case Unary("clip", x, bound) if bound is not None:
            inner = _spread(x)
            ((c, rest), *more) = terms(inner)
            if more or c in (0.0, 1.0) or not math.isfinite(bound / c):
                return Unary("clip", inner, bound)
            return Binary("*", Number(c), Unary("clip", rest, bound / abs(c)))
        case Unary("drop", x, p):
            inner = _spread(x)
            ((c, rest), *more) = terms(inner)
            if more or c in (0.0, 1.0) or rest == ONE:
                return Unary("drop", inner, p)
            return Binary("*", Number(c), Unary("drop", rest, p))
        case Unary("sqrt", x):
            return _root(_spread(x))
        case Unary(function, x, parameter):
            return Unary(function, _spread(x), parameter)
        case Binary("*", x, y):
            return _product(_spread(x), _spread(y))
        case Binary("/", x, y):
            below = _spread(y)
            return _total([(c, _tidied(Binary("/", rest, below))) for c, rest in terms(_spread(x))])
        case Binary("**", x, Number(n)) if n in range(2, LARGEST_POWER + 1):
            return _tidied(reduce(_product, [_spread(x)] * int(n)))
        case Binary("**", x, Number(n)) if n in ROOTS and is_nonnegative(x):
            return Unary("sqrt", Binary("**", _spread(x), Number(2 * n)))
        case Binary(function, x, y):
            return Binary(function, _spread(x), _spread(y))
        case _:
            return expr


def _root(x: Expr) -> Expr:
    """The root, without pairs of divisors that are never below 0."""
    above, below = _factors(x)
    outside: list[Expr] = []
    for divisor in dict.fromkeys(below):
        while below.count(divisor) > 1 and is_nonnegative(divisor):
            below.remove(divisor)
            below.remove(divisor)
            outside.append(divisor)
    return _quotient([Unary("sqrt", _quotient(above, below))], outside)


def _product(x: Expr, y: Expr) -> Expr:
    pairs = [(a, b) for a in terms(x) for b in terms(y)]
    if len(pairs) > MOST_TERMS:
        return Binary("*", x, y)
    return _total([(a * b, _tidied(Binary("*", p, q))) for (a, p), (b, q) in pairs])


def _total(parts: list[Term]) -> Expr:
    products: list[Expr] = [
        rest if c == 1 else Binary("*", Number(c if math.isfinite(c) and c else 0.0), rest)
        for c, rest in parts
    ]
    return reduce(lambda x, y: Binary("+", x, y), products)


def _tidied(expr: Expr) -> Expr:
    """A product without pairs of roots, and without pairs of signs of one of its factors."""
    above, below = _factors(expr)
    for root in [f for f in dict.fromkeys(above) if isinstance(f, Unary) and f.function == "sqrt"]:
        while above.count(root) > 1:
            above.remove(root)
            above[above.index(root)] = root.x
            above.append(Unary("sign", root.x))
    for base in dict.fromkeys(above):
        sign = Unary("sign", base)
        while above.count(sign) > 1:
            above.remove(sign)
            above.remove(sign)
    return _quotient(above, below)


def _quotient(above: list[Expr], below: list[Expr]) -> Expr:
    total = reduce(lambda x, y: Binary("*", x, y), above or [ONE])
    return reduce(lambda x, y: Binary("/", x, y), below, total)


def _factors(expr: Expr) -> tuple[list[Expr], list[Expr]]:
    """What a product multiplies, powers written out, and what it divides by."""
    match expr:
        case Binary("*", x, y):
            (a, b), (c, d) = _factors(x), _factors(y)
            return [*a, *c], [*b, *d]
        case Binary("/", x, y):
            a, b = _factors(x)
            return a, [*b, y]
        case Binary("**", x, Number(n)) if n in range(2, LARGEST_POWER + 1):
            a, b = _factors(x)
            return a * int(n), b * int(n)
        case Operand(name) if (definition := operand_row(name).definition) is not None:
            return _factors(definition)
        case Number(value) if value == 1:
            return [], []
        case _:
            return [expr], []


def _with_exponentials(expr: Expr) -> Expr:
    match expr:
        case Unary(function, x, parameter):
            return Unary(function, _with_exponentials(x), parameter)
        case Binary("**", Number(base), x) if base > 0:
            parts = [(c * math.log(base), rest) for c, rest in terms(_with_exponentials(x))]
            return Unary("exp", _total(parts))
        case Binary(function, x, y):
            return Binary(function, _with_exponentials(x), _with_exponentials(y))
        case _:
            return expr


def _text_of_rest(term: Term) -> str:
    return print_expr(term[1])


def _shape_of_rest(rest: Expr) -> str:
    match rest:
        case Number():
            return "#"
        case Operand(name):
            return name
        case Unary(function, x):
            return f"{function}({shape(x)})"
        case Binary(function, x, y):
            return f"[{shape(x)} {function} {shape(y)}]"


def _alike(x: Expr, y: Expr) -> bool:
    match x, y:
        case Number(a), Number(b):
            return _close(a, b)
        case Unary(f, a, p), Unary(g, b, q):
            return f == g and _close(p or 0.0, q or 0.0) and _alike(a, b)
        case Binary(f, a, b), Binary(g, c, d):
            return f == g and _alike(a, c) and _alike(b, d)
        case _:
            return x == y


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=CLOSE)
