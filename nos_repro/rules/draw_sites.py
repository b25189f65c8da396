"""Drops that draw independently, kept apart in the normal form.

In a rule equal subtrees are one draw, and different ones are independent (`optim.program`), also if
algebra says that their arguments are equal: drop(g * m, 0.5) - drop(m * g, 0.5) is not 0. So the
first of several such drops has the normal form of its argument, and each further one has that with
two more minus signs: drop(g * m, 0.5) - drop(--(g * m), 0.5).
"""

from collections import Counter
from collections.abc import Callable

from nos_repro.rules.primitives import unary_row
from nos_repro.rules.printing import print_expr
from nos_repro.rules.tree import Binary, Expr, Unary, walk

NO_NUMBERS = "for grouping and display (experiments.digest)"


def is_drop(expr: Expr) -> bool:
    """Whether the outermost function draws."""
    return isinstance(expr, Unary) and unary_row(expr.function).random


def drops_apart(expr: Expr, simplified: Callable[[Expr], Expr]) -> Expr:
    """The tree with simplified arguments of its drops, which differ where the drops did.

    The drops are taken from the shortest text to the longest, so that those of a normal form keep
    their places.
    """
    found = {_size(node): node for node in walk(expr) if is_drop(node)}
    if not found:
        return expr
    new: dict[Expr, Expr] = {}
    seen: Counter[Expr] = Counter()
    for _, drop in sorted(found.items()):
        assert isinstance(drop, Unary)
        argument = simplified(_replaced(drop.x, new))
        first = Unary(drop.function, argument, drop.parameter)
        for _ in range(seen[first]):
            argument = Unary("neg", Unary("neg", argument))
        seen[first] += 1
        new[drop] = Unary(drop.function, argument, drop.parameter)
    return _replaced(expr, new)


def _size(expr: Expr) -> tuple[int, str]:
    text = print_expr(expr)
    return len(text), text


def _replaced(expr: Expr, new: dict[Expr, Expr]) -> Expr:
    if expr in new:
        return new[expr]
    match expr:
        case Unary(function, x, parameter):
            return Unary(function, _replaced(x, new), parameter)
        case Binary(function, x, y):
            return Binary(function, _replaced(x, new), _replaced(y, new))
        case _:
            return expr
