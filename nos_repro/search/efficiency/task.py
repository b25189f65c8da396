"""A search task without training: a space of the papers' size and a reward known in advance.

The best rule is PowerSign, in any of its spellings. The grades below it are ours, a slope to climb.

*Confession*: they are the gentlest of several tried with PPO and REINFORCE on seeds 0 and 1, which
no result here uses. When parts of the best rule were graded wherever they occurred, every learner
settled, at every step size tried, on a rule that no change of a single token improves. The ranking
of the learners holds for these grades; other grades may rank them differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from nos_repro.rules.families import FAMILIES
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import Space
from nos_repro.rules.tree import Binary, Expr, Operand, Unary, walk

SPACE = Space(
    operands=("g", "m", "v", "sign(g)", "sign(m)", "adam", "rmsprop", "1"),
    unary=("identity", "neg", "exp", "sqrt"),
    binary=("+", "-", "*", "/"),
    iterations=2,
)
"""2,752,512 strings; the papers' spaces have 10^6 to 10^11 (sec. 4.1)."""

BEST = FAMILIES["powersign"].rule().normal()
OPTIMUM = 1.0
DIRECTED = frozenset(map(Operand, ("g", "g3", "m", "adam", "rmsprop")))
SIGNS = (Unary("sign", Operand("g")), Unary("sign", Operand("m")))


@cache
def reward(tokens: tuple[str, ...]) -> float:
    """The grade of a string; strings whose rules have the same normal form are graded alike."""
    return grade(Rule.from_tokens(tokens).normal().expr)


def grade(normal: Expr) -> float:
    """A rule's grade from 0 to 1, by its normal form.

    1 for the best rule. Else 0 if nothing in it tells the gradient's direction, and 0.1 if
    something does; 0.3 if the rule is g times something, plus 0.15 each if that something contains
    sign(g), contains sign(m), and is a single exponential. So only the best rule exceeds 0.75.
    Divisors are ignored.
    """
    if normal == BEST.expr:
        return OPTIMUM
    if DIRECTED.isdisjoint(walk(normal)):
        return 0.0
    others = list(_factors(normal))
    if Operand("g") not in others:
        return 0.1
    others.remove(Operand("g"))
    inside = {part for factor in others for part in walk(factor)}
    exponential = len(others) == 1 and isinstance(others[0], Unary) and others[0].function == "exp"
    return round(0.3 + 0.15 * sum([*(sign in inside for sign in SIGNS), exponential]), 2)


def _factors(expr: Expr) -> Iterator[Expr]:
    """The factors of an expression."""
    match expr:
        case Binary("*", x, y):
            yield from _factors(x)
            yield from _factors(y)
        case Binary("/", x, _):
            yield from _factors(x)
        case _:
            yield expr
