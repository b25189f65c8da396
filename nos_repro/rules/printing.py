"""A tree as text. What is printed parses back to the same tree."""

import functools
import math

from nos_repro.rules.primitives import ATOM, NEGATION, binary_row
from nos_repro.rules.tree import Binary, Expr, Number, Operand, States, Unary


@functools.lru_cache(maxsize=2**12)
def print_number(value: float) -> str:
    """The shortest text that reads back as the same float: 2, 0.5, 1e-4."""
    if value == round(value, 0) and abs(value) < 1e6:
        return str(int(value))
    text = repr(value)
    if 0 < abs(value) < 0.1 and text.strip("-0.") == "1":
        power = f"1e{round(math.log10(abs(value)))}"
        text = f"-{power}" if value < 0 else power
    if abs(value) < 0.1 or "e" in text:
        text = text.replace("e-0", "e-").replace("e+", "e")
    return text if float(text) == value else repr(value)


def precedence(expr: Expr) -> int:
    """How tightly the outermost operator of the printed text binds."""
    match expr:
        case Binary(function):
            infix = binary_row(function).infix
            return ATOM if infix is None else infix.precedence
        case Unary("neg", x) if not isinstance(x, Number):
            return NEGATION
        case Number(value) if value < 0:
            return NEGATION
        case _:
            return ATOM


def print_expr(expr: Expr) -> str:
    """`exp(sign(g) * sign(m)) * g`. -2 is a number; its neg is `neg(2)`."""
    match expr:
        case Operand(name):
            return name[4:-1] if name.startswith("new(") else name
        case Number(value):
            return print_number(value)
        case Unary("neg", x) if not isinstance(x, Number):
            return "-" + _bracketed(x, NEGATION)
        case Unary(function, x, None):
            return f"{function}({print_expr(x)})"
        case Unary(function, x, parameter):
            assert parameter is not None
            return f"{function}({print_expr(x)}, {print_number(parameter)})"
        case Binary(function, x, y):
            infix = binary_row(function).infix
            if infix is None:
                return f"{function}({print_expr(x)}, {print_expr(y)})"
            sign = function if function == "**" else f" {function} "
            return _bracketed(x, infix.left) + sign + _bracketed(y, infix.right)


def print_rule(expr: Expr, states: States) -> str:
    """`u <- 0.9 * u + g; g + 0.9 * u`. Before its new value is known, a state's name means the old
    one."""
    ahead = [name for name, _ in states]
    parts = []
    for name, tree in states:
        parts.append(f"{name} <- {_with_short_names(print_expr(tree), ahead)}")
        ahead.remove(name)
    return "; ".join([*parts, print_expr(expr)])


def _with_short_names(text: str, states: list[str]) -> str:
    for name in states:
        text = text.replace(f"old({name})", name)
    return text


def _bracketed(expr: Expr, least: int) -> str:
    text = print_expr(expr)
    return text if precedence(expr) >= least else f"({text})"
