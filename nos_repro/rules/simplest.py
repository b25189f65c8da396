"""The simplest text of a rule, for display.

The normal form leaves every division as it is written, for its delta counts where the divisor is
small. A decay is not small before the last steps: there g / sqrt(1 / ld), which is how a search
writes it, is g * sqrt(ld). So for display such divisions are turned round, and the form with the
fewest nodes is shown. A sign below the line goes in front, rmsprop / -m is -(rmsprop / m), unless
the divisor is small: v / -v, where delta counts, has the sign of v.
"""

from functools import lru_cache

from nos_repro.rules.draw_sites import is_drop
from nos_repro.rules.normal import SMALLEST_PLAIN_DIVISOR, normal_form
from nos_repro.rules.parse import is_tagged, parse
from nos_repro.rules.primitives import DELTA, binary_row, operand_row, unary_row
from nos_repro.rules.printing import print_expr
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary, walk

NO_NUMBERS = "prints (experiments.digest)"

TYPICAL = {"g": 1.1e-3, "m": 0.9e-3, "v": 1e-6, "gamma": 1e-9, "w": 0.05}
"""Sizes in a training; noise is 0.1, a decay 0.5."""
SLOPES = ("g", "m", "gamma")
"""What changes its sign with the slope."""
LEAST = 1e-4
"""Beside a typical divisor of this size, delta is nothing."""


@lru_cache(maxsize=1 << 14)
def simplest_text(text: str) -> str:
    """The text of the simplest form of a rule in normal form."""
    if is_tagged(text) or "/" not in text:  # the second edition's forms are shown as they are
        return text
    return print_expr(simplest(parse(text)))


def simplest(expr: Expr) -> Expr:
    """The simplest of a normal form and what it is with divisions by decays turned round, and with
    signs in front."""
    while (turned := _turned(expr)) != expr:
        other = normal_form(turned)
        if _size(other) >= _size(expr) or _draws(other) < _draws(expr):
            break
        expr = other  # where another division may be one to turn round now
    return expr


def _size(expr: Expr) -> tuple[int, int, int, str]:
    """How many signs are below a line, how many nodes there are, and the text."""
    text, nodes = print_expr(expr), list(walk(expr))
    return sum(_divides_by_negative(node) for node in nodes), len(nodes), len(text), text


def _draws(expr: Expr) -> int:
    """How many drops draw independently: different ones must not become equal."""
    return len({node for node in walk(expr) if is_drop(node)})


def _divides_by_negative(node: Expr) -> bool:
    match node:
        case Binary("/", _, Unary("neg")):
            return True
        case _:
            return False


def _turned(expr: Expr) -> Expr:
    match expr:
        case Unary(function, x, parameter):
            return Unary(function, _turned(x), parameter)
        case Binary("/", x, Unary("neg", y)) if _is_large(y):
            return Unary("neg", Binary("/", _turned(x), _turned(y)))
        case Binary("/", x, y) if inverse := _inverse(y):
            return Binary("*", _turned(x), inverse)
        case Binary("*", x, y) if inverse := _inverse(y):
            return Binary("/", _turned(x), inverse)
        case Binary("*", x, y) if inverse := _inverse(x):
            return Binary("/", _turned(y), inverse)
        case Binary(function, x, y):
            return Binary(function, _turned(x), _turned(y))
        case _:
            return expr


def _inverse(expr: Expr) -> Expr | None:
    """The inverse of a quotient of decays and numbers, or of its root; None of all else."""
    match expr:
        case Binary("/", x, y) if _is_steady(x) and _is_steady(y):
            return Binary("/", y, x)
        case Unary("sqrt", x) if inverse := _inverse(x):
            return Unary("sqrt", inverse)
        case _:
            return None


def _is_steady(expr: Expr) -> bool:
    """Whether it is made of decays and of numbers to which delta is nothing."""
    match expr:
        case Number(value):
            return abs(value) >= SMALLEST_PLAIN_DIVISOR
        case Operand(name):
            return operand_row(name).needs_total_steps
        case Unary("sqrt", x):
            return _is_steady(x)
        case Binary("*" | "/", x, y):
            return _is_steady(x) and _is_steady(y)
        case Binary("**", x, Number(power)):
            return power > 0 and _is_steady(x)
        case _:
            return False


def _is_large(divisor: Expr) -> bool:
    """Whether delta is nothing beside it, on either slope."""
    return all(abs(_typical(divisor, slope)) >= LEAST for slope in (1, -1))


def _typical(expr: Expr, slope: int) -> float:
    """Its value at a typical moment; 0 for a drop, which may be."""
    match expr:
        case Number(value):
            return value
        case Operand(name):
            row = operand_row(name)
            if row.definition is not None:
                return _typical(row.definition, slope)
            value = TYPICAL.get(name, 0.1 if row.random else 0.5)
            return slope * value if name in SLOPES else value
        case Unary(function, x, parameter):
            applied = unary_row(function)
            if applied.pointwise and not applied.random:
                return applied.on_float(_typical(x, slope), parameter)
            return 0.0
        case Binary(function, x, y):
            divisor = _typical(y, slope) + DELTA * binary_row(function).adds_delta
            return binary_row(function).on_floats([_typical(x, slope)], [divisor])[0]
