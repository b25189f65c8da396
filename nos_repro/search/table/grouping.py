"""The distinct rules of a space: all of its strings, grouped as a search groups what it draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nos_repro.rules.numbering import all_strings
from nos_repro.rules.printing import print_expr
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import Space
from nos_repro.rules.tokens import from_tokens
from nos_repro.rules.tree import Expr, walk
from nos_repro.search.equality import key_of
from nos_repro.search.refusals import Refusals

MOST_STRINGS = 10_000_000
"""Of a larger space nobody trains all rules."""


@dataclass(frozen=True)
class TableRule:
    """A distinct rule: its ``key`` (what equal rules share), the simplest ``text`` that the space
    has for it, which is what is trained, its ``normal`` form for display, how many ``strings``
    write it, and why the probes ``refused`` it ("" if they did not)."""

    key: str
    text: str
    normal: str
    strings: int
    refused: str = ""


def distinct_rules(
    space: Space, refuse: Refusals, note: Callable[[str], None] = lambda message: None
) -> tuple[list[TableRule], np.ndarray]:
    """The distinct rules, in the order of the first string that writes each, and for every string
    the index of its rule (`numbering` numbers the strings).

    A string's text is the tree that it writes, not simplified: `drop(g, 0.3)` is not the same as
    what algebra would make of a rule that draws.
    """
    from nos_repro.search.probe import probe

    trees: dict[Expr, int] = {}
    of_string = np.fromiter(
        (trees.setdefault(from_tokens(tokens), len(trees)) for tokens in all_strings(space)),
        dtype=np.int64,
        count=space.size,
    )
    note(f"{space.size:,} strings write {len(trees):,} trees; they are grouped now")
    places: dict[str, int] = {}
    normals: list[str] = []
    simplest: list[Expr] = []
    of_tree = np.empty(len(trees), dtype=np.int64)
    for number, tree in enumerate(trees):
        key, normal = key_of(Rule(tree))
        place = places.setdefault(key, len(places))
        of_tree[number] = place
        if place == len(normals):
            normals.append(normal)
            simplest.append(tree)
        elif _size(tree) < _size(simplest[place]):
            simplest[place] = tree
    rule_of_string = of_tree[of_string]
    strings = np.bincount(rule_of_string, minlength=len(places))
    note(f"they are {len(places):,} distinct rules; each is probed now")
    rules = []
    for key, place in places.items():
        reason = probe(Rule(simplest[place]))
        refused = str(reason) if refuse.refuse(reason) else ""
        text = print_expr(simplest[place])
        rules.append(TableRule(key, text, normals[place], int(strings[place]), refused))
    return rules, rule_of_string.astype(np.uint16 if len(rules) <= 2**16 else np.uint32)


def _size(expr: Expr) -> tuple[int, int, str]:
    text = print_expr(expr)
    return sum(1 for _ in walk(expr)), len(text), text
