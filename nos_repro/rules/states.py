"""The states that a rule keeps (second edition): which are needed, and those of its functions.

`ema(x, 0.9)` is short for a state of its own. `spelled_out` writes it so, and then every reader of
a tree needs to know only the values of named states.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nos_repro.rules.primitives import BINARY, OPERANDS_2, UNARY, unary_row
from nos_repro.rules.tree import (
    Binary,
    Expr,
    Operand,
    States,
    Unary,
    new_value,
    old_value,
    state_of,
    walk,
)


def nodes(expr: Expr, states: States) -> Iterator[Expr]:
    """Every node of the states' trees and of the update's."""
    for _, tree in states:
        yield from walk(tree)
    yield from walk(expr)


def is_second(node: Expr) -> bool:
    """Whether a node is of the second edition."""
    match node:
        case Operand(name):
            return name in OPERANDS_2 or state_of(name) is not None
        case Unary(function):
            return function not in UNARY
        case Binary(function):
            return function not in BINARY
        case _:
            return False


def live(expr: Expr, states: States) -> States:
    """The states on which the update depends, now or later."""
    trees, wanted = dict(states), set[str]()
    ahead = [expr]
    while ahead:
        found = {name for name, _ in _values(ahead.pop())} - wanted
        wanted |= found
        ahead += [trees[name] for name in sorted(found)]
    return tuple((name, tree) for name, tree in states if name in wanted)


def kept(expr: Expr, states: States) -> tuple[str, ...]:
    """The states whose old values are read: only these are kept from update to update."""
    trees = [tree for _, tree in states] + [expr]
    old = {name for tree in trees for name, is_old in _values(tree) if is_old}
    return tuple(name for name, _ in states if name in old)


def _values(tree: Expr) -> Iterator[tuple[str, bool]]:
    for node in walk(tree):
        if isinstance(node, Operand) and (known := state_of(node.name)):
            yield known


def spelled_out(expr: Expr, states: States = ()) -> tuple[Expr, States]:
    """The update and the states that it depends on, without functions that keep states or are
    short for others."""
    if not any(map(is_second, nodes(expr, states))):
        return expr, ()
    writer = _Writer()
    for name, tree in states:
        new = writer.visit(tree)
        writer.states.append((name, new))
    update = writer.visit(expr)
    return update, live(update, tuple(writer.states))


class _Writer:
    """Collects states; the same function of the same argument keeps one."""

    def __init__(self) -> None:
        self.states: list[tuple[str, Expr]] = []
        self._seen: dict[Expr, Expr] = {}
        self._counts: Counter[str] = Counter()

    def visit(self, expr: Expr) -> Expr:
        if expr not in self._seen:
            self._seen[expr] = self._written(expr)
        return self._seen[expr]

    def _written(self, expr: Expr) -> Expr:
        match expr:
            case Unary(function, argument, parameter):
                row, x = unary_row(function), self.visit(argument)
                if row.definition is None:
                    return Unary(function, x, parameter)
                constant = 0.0 if parameter is None else parameter
                if row.recurrence is None:
                    return row.definition(x, constant)
                self._counts[function] += 1
                name = f"{function}_{self._counts[function]}"
                self.states.append((name, row.recurrence(old_value(name), x, constant)))
                return row.definition(new_value(name), constant)
            case Binary(function, x, y):
                return Binary(function, self.visit(x), self.visit(y))
            case _:
                return expr
