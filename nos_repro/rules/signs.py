"""What is known about the sign of a tree; the normal form uses it."""

from functools import lru_cache

from nos_repro.rules.primitives import UNARY, operand_row
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
            known = UNARY[function].nonnegative
            return is_nonnegative(x) if known == "where x is" else known
        case Binary("+" | "*" | "/", x, y):
            return is_nonnegative(x) and is_nonnegative(y)
        case Binary("**", x, Number(power)) if power % 2 == 0:
            return True
        case Binary("**", x, _):
            return is_nonnegative(x)
        case _:
            return False
