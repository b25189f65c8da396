"""Exact rewriting: every value stays, NaN, infinities and signed zeros included, so it may run.

Small on purpose. What looks exact and is not: x + 0 (of -0.0), x / 1 (the divisor is 1 + 1e-8),
neg(x - y) = y - x (of 0), sign(neg(x)) = neg(sign(x)) (of 0), sign(c * x) for c < 1 (underflow),
neg(2) = -2 (a number alone is rounded to bfloat16, a number beside a tensor is not).
The bit pattern of a NaN is not a value. Nothing changes inside a drop, and no two arguments trade
places: the random numbers are drawn in the same order, as many as before.
"""

from collections.abc import Callable

from nos_repro.rules.primitives import UNARY
from nos_repro.rules.tree import Binary, Expr, Number, Unary


def _neg(node: Unary) -> Expr | None:
    match node.x:
        case Unary("neg", x):  # neg(neg(x)) = x
            return x
        case _:
            return None


def _even(node: Unary) -> Expr | None:
    """sqrt(neg(x)) = sqrt(x), log(neg(x)) = log(x): both take |x|."""
    match node.x:
        case Unary("neg", x):
            return Unary(node.function, x)
        case _:
            return None


def _sign(node: Unary) -> Expr | None:
    match node.x:
        case Unary("sign" | "clip", x):  # sign(sign(x)) = sign(clip(x, p)) = sign(x)
            return Unary("sign", x)
        case Binary("*", Number(c), x) | Binary("*", x, Number(c)) if c >= 1:
            return Unary("sign", x)  # sign(2 * x) = sign(x): nothing underflows
        case _:
            return None


def _clip(node: Unary) -> Expr | None:
    match node:
        case Unary("clip", Unary("clip", x, float(inner)), float(outer)):
            return Unary("clip", x, min(inner, outer))
        case _:
            return None


def _plus(node: Binary) -> Expr | None:
    match node:
        case Binary("+", x, Unary("neg", y)):  # x + neg(y) = x - y
            return Binary("-", x, y)
        case _:
            return None


def _minus(node: Binary) -> Expr | None:
    match node:
        case Binary("-", x, Unary("neg", y)):  # x - neg(y) = x + y
            return Binary("+", x, y)
        case Binary("-", x, Number(0.0)):  # x - 0 = x, of -0.0 too
            return x
        case _:
            return None


def _times(node: Binary) -> Expr | None:
    match node:
        case Binary("*", x, Number(1.0)) | Binary("*", Number(1.0), x):
            return x
        case Binary("*", Unary("neg", x), Unary("neg", y)):
            return Binary("*", x, y)
        case _:
            return None


def _power(node: Binary) -> Expr | None:
    match node:
        case Binary("**", x, Number(1.0)):
            return x
        case _:
            return None


# fmt: off
UNARY_REWRITES: dict[str, Callable[[Unary], Expr | None]] = {
    "neg": _neg, "sqrt": _even, "log": _even, "sign": _sign, "clip": _clip,
}
BINARY_REWRITES: dict[str, Callable[[Binary], Expr | None]] = {
    "+": _plus, "-": _minus, "*": _times, "**": _power,
}
# fmt: on


def simplify_exactly(expr: Expr) -> Expr:
    """A tree that computes the very same values in fewer steps (or the tree itself)."""
    rewritten: Expr | None = None
    match expr:
        case Unary(function, x, parameter) if not UNARY[function].random:
            expr = Unary(function, simplify_exactly(x), parameter)
            if function in UNARY_REWRITES:
                rewritten = UNARY_REWRITES[function](expr)
        case Binary(function, x, y):
            expr = Binary(function, simplify_exactly(x), simplify_exactly(y))
            if function in BINARY_REWRITES:
                rewritten = BINARY_REWRITES[function](expr)
    return expr if rewritten is None else simplify_exactly(rewritten)
