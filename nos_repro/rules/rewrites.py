"""What the normal form knows of the functions, as tables; for grouping and display, never run."""

import math
from collections.abc import Callable
from functools import lru_cache

from nos_repro.rules.primitives import PERIODIC_DECAY
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

NONNEGATIVE_OPERANDS = ("v", "g2", "ld", "cd")
NONNEGATIVE_FUNCTIONS = ("exp", "sqrt", "sigmoid")

# What an outer function makes of an inner one: log(exp(x)) = x.
# fmt: off
INNER: dict[tuple[str, str], Callable[[Expr], Expr]] = {
    ("log",  "exp"):     lambda x: x,
    ("log",  "sqrt"):    lambda x: Binary("*", Number(0.5), Unary("log", x)),
    ("sqrt", "exp"):     lambda x: Unary("exp", Binary("*", Number(0.5), x)),
    ("sqrt", "sign"):    lambda x: Binary("**", Unary("sign", x), Number(2.0)),
    ("sign", "exp"):     lambda _: Number(1.0),
    ("sign", "sigmoid"): lambda _: Number(1.0),
    ("sign", "sqrt"):    lambda x: Binary("**", Unary("sign", x), Number(2.0)),
    ("sign", "sign"):    lambda x: Unary("sign", x),
    ("sign", "clip"):    lambda x: Unary("sign", x),
}
# The value of a function of a number; not finite where the tree is to stay as it is.
CONSTANT: dict[str, Callable[[float], float]] = {
    "exp":     lambda c: math.exp(c) if c < 700 else math.inf,
    "log":     lambda c: math.log(abs(c)) if c else -math.inf,
    "sqrt":    lambda c: math.sqrt(abs(c)),
    "sign":    lambda c: math.copysign(1.0, c) if c else 0.0,
    "sigmoid": lambda c: 1 / (1 + math.exp(-c)) if abs(c) < 700 else math.nan,
}
# fmt: on


@lru_cache(maxsize=1 << 14)
def is_nonnegative(expr: Expr) -> bool:
    """Whether a normal form is never below 0, as far as a glance tells."""
    match expr:
        case Operand(name):
            return name in NONNEGATIVE_OPERANDS or PERIODIC_DECAY.fullmatch(name) is not None
        case Number(value):
            return value >= 0
        case Unary("clip" | "drop", x):
            return is_nonnegative(x)
        case Unary(function):
            return function in NONNEGATIVE_FUNCTIONS
        case Binary("+" | "*" | "/", x, y):
            return is_nonnegative(x) and is_nonnegative(y)
        case Binary("**", _, Number(power)):
            return power % 2 == 0
        case _:
            return False
