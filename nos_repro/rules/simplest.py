"""The simplest text of a rule, for display.

The normal form leaves every division as it is written, for its delta counts where the divisor is
small. A decay is not small before the last steps: there g / sqrt(1 / ld), which is how a search
writes it, is g * sqrt(ld). So for display such divisions are turned round, and the form with the
fewest nodes is shown.
"""

from functools import lru_cache

from nos_repro.rules.normal import SMALLEST_PLAIN_DIVISOR, normal_form
from nos_repro.rules.parse import parse
from nos_repro.rules.primitives import operand_row
from nos_repro.rules.printing import print_expr
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary, walk

NO_NUMBERS = "prints (experiments.digest)"


@lru_cache(maxsize=1 << 14)
def simplest_text(text: str) -> str:
    """The text of the simplest form of a rule in normal form."""
    return print_expr(simplest(parse(text))) if "/" in text else text


def simplest(expr: Expr) -> Expr:
    """The simplest of a normal form and what it is with divisions by decays turned round."""
    turned = _turned(expr)
    return expr if turned == expr else min(expr, normal_form(turned), key=_size)


def _size(expr: Expr) -> tuple[int, int, str]:
    text = print_expr(expr)
    return sum(1 for _ in walk(expr)), len(text), text


def _turned(expr: Expr) -> Expr:
    match expr:
        case Unary(function, x, parameter):
            return Unary(function, _turned(x), parameter)
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
