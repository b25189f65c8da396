"""Facts about trees that the normal form uses: their signs, and the operands that abbreviate powers
and quotients."""

from functools import cache, lru_cache
from typing import TypeGuard

from nos_repro.rules.primitives import OPERANDS, operand_row, unary_row
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary


@lru_cache(maxsize=1 << 14)
def is_nonnegative(expr: Expr) -> bool:
    """Whether a normal form is certainly never below 0; False where it is not obvious."""
    match expr:
        case Operand(name):
            return operand_row(name).nonnegative
        case Number(value):
            return value >= 0
        case Unary(function, x):
            known = unary_row(function).nonnegative
            return is_nonnegative(x) if known == "where x is" else known
        case Binary("+" | "*" | "/", x, y):
            return is_nonnegative(x) and is_nonnegative(y)
        case Binary("**", x, Number(power)) if power % 2 == 0:
            return True
        case Binary("**", x, _):
            return is_nonnegative(x)
        case _:
            return False


@cache
def short_powers() -> dict[tuple[Expr, int], Operand]:
    """(g, 2) is g2."""
    return {
        power: Operand(row.name)
        for row in OPERANDS.values()
        if row.definition is not None and (power := _as_power(row.definition))[1] > 1
    }


@cache
def short_quotients() -> dict[tuple[Expr, Expr], Operand]:
    """(m, sqrt(v)) is adam."""
    definitions = ((row.name, row.definition) for row in OPERANDS.values())
    return {(d.x, d.y): Operand(name) for name, d in definitions if _is_quotient(d)}


def _is_quotient(expr: Expr | None) -> TypeGuard[Binary]:
    return isinstance(expr, Binary) and expr.function == "/"


def _as_power(expr: Expr) -> tuple[Expr, int]:
    if isinstance(expr, Binary) and expr.function == "*":
        (x, n), (y, k) = _as_power(expr.x), _as_power(expr.y)
        if x == y:
            return x, n + k
    return expr, 1
