"""The specification of sub-expressions: read from a rule's tree, every part printed."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from nos_repro.rules.printing import print_expr
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary, children

ONE = Number(1.0)
Part = tuple[Expr, int]


def by_tree(normal: Expr) -> set[str]:
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
