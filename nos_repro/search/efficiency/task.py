"""A search task without training: a space of the papers' size and a reward known in advance.

The best rule is PowerSign, in any of its writings. The grades below it are ours, to climb by.

*Confession*: they are the gentlest of several that were tried with PPO and REINFORCE on seeds 0 and
1, which no result here uses. Where parts of the best rule were graded wherever they stood, every
learner settled, at every step size tried, on a rule from which no single token leads upwards. The
order of the learners is that of these grades; others may order them otherwise.
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
    """The grade of a string: equal for strings whose rules have one normal form."""
    return grade(Rule.from_tokens(tokens).normal().expr)


def grade(normal: Expr) -> float:
    """From 0 to 1, by the normal form of a rule.

    1 for the best rule. Else 0 where nothing tells the gradient's direction and 0.1 where something
    does; 0.3 where the rule is g times something, and 0.15 more for each of: sign(g) in it,
    sign(m) in it, and it being one exponential. So nothing but the best rule is above 0.75. What
    divides is not looked at.
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
    """What is multiplied to make an expression."""
    match expr:
        case Binary("*", x, y):
            yield from _factors(x)
            yield from _factors(y)
        case Binary("/", x, _):
            yield from _factors(x)
        case _:
            yield expr
