"""Which sub-expressions the best rules share (000 sec. 4.3: "showing up in 5 of the top 10").

They are counted in normal forms, where commuted and otherwise equal rules are one. A normal form
is flat: `exp(ld) * sign(g) * sign(m)` has no node `sign(g) * sign(m)`. So every two factors of a
product, and every two terms of a sum, count as a sub-expression too; a power is one factor.
Numbers in front and signs do not count: `-0.5 * sign(g) * sign(m)` holds `sign(g) * sign(m)`, and
`2 * m - 2 * g` holds `g - m`.

A search finds tens of thousands of rules, and trees of all of them would take most of a report's
time. So the texts are cut up as `rules.printing` writes them: brackets only where they are needed,
a space on either side of `+ - * /`.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nos_repro.rules.printing import print_number
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import Space

SIGNS = "sign(g) * sign(m)"
"""What the papers found to recur."""
DRAWS, SEED = 1000, 2017
TAIL = 0.025

# fmt: off
TERMS     = re.compile(r"( [-+] )")
FACTORS   = re.compile(r"( [*/] )")
POWERS    = re.compile(r"(\*\*)")
OPERANDS  = re.compile(r"( [-+*/] |\*\*)")
ARGUMENTS = re.compile(r"(, )")
"""What lies between them in a text."""
# fmt: on
NUMBER = re.compile(r"-?\d[\d.]*(?:e[-+]?\d+)?")

Part = tuple[str, int]
"""A term and its sign, or a factor, in its brackets, and its power: -1 below the line."""


@dataclass(frozen=True)
class Lift:
    """How often a sub-expression occurs: in ``best`` of the best rules, in ``all`` of all."""

    text: str
    best: int
    all: int
    lift: float
    """The share among the best over the share among all; NaN where it occurs nowhere."""


@dataclass(frozen=True)
class Shares:
    """The sub-expressions of rules, by their lift among the best ``best`` of ``all`` rules."""

    best: int
    all: int
    lifts: dict[str, Lift]

    def find(self, text: str) -> Lift:
        return self.lifts.get(text, Lift(text, 0, 0, math.nan))

    def top(self, number: int, least: int) -> list[Lift]:
        """The largest lifts of what occurs in ``least`` rules or more, and in one of the best."""
        often = [lift for lift in self.lifts.values() if lift.all >= least and lift.best]
        return sorted(often, key=lambda lift: (-lift.lift, -lift.best, lift.text))[:number]


def shares(ranked: Sequence[str], best: int) -> Shares:
    """Counts sub-expressions of rules in normal form, the best ones first: how many rules of the
    first ``best``, and of all, have each of them."""
    in_best: Counter[str] = Counter()
    in_all: Counter[str] = Counter()
    for number, rule in enumerate(ranked):
        found = subexpressions(rule)
        in_all.update(found)
        if number < best:
            in_best.update(found)
    scale = len(ranked) / best if best else math.nan
    lifts = {
        text: Lift(text, in_best[text], count, in_best[text] / count * scale)
        for text, count in in_all.items()
    }
    return Shares(best, len(ranked), lifts)


@functools.cache
def uniform_share(space: Space, part: str) -> tuple[float, float]:
    """Which share of a space's strings write a rule that holds ``part``, a normal form, and its
    one-sided 97.5 % limit: from DRAWS uniform draws, refused rules included."""
    source = random.Random(SEED)
    needed = _averages(Rule.parse(part, space.language))
    drawn = (Rule.from_tokens(space.sample(source)) for _ in range(DRAWS))
    able = (rule for rule in drawn if needed <= _averages(rule))
    held = sum(part in subexpressions(str(rule.normal())) for rule in able)
    return held / DRAWS, count_at_most(held) / DRAWS


def _averages(rule: Rule) -> set[str]:
    return {row.name for row in rule.operands}


def count_at_most(seen: int) -> float:
    """The largest mean of a rare event's count that leaves ``seen`` or fewer with a probability of
    2.5 % (Poisson)."""
    low, high = 0.0, 4.0 * seen + 8
    while high - low > 1e-6 * high:
        mean = (low + high) / 2
        chance = math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1))
                           for k in range(seen + 1))  # fmt: skip
        low, high = (mean, high) if chance > TAIL else (low, mean)
    return high


@functools.lru_cache(maxsize=1 << 15)  # rules share most of their parts
def subexpressions(normal: str) -> frozenset[str]:
    """The texts of the sub-expressions of a normal form, numbers left out: ``normal`` itself too,
    without its sign and the number in front."""
    normal = normal.removeprefix("language 2: ")
    if " <- " in normal:  # what its states are made of is not counted
        return frozenset({normal})
    terms = list(_terms(normal, 1))
    if len(terms) > 1:
        return frozenset(_held(terms, _sum))
    factors = list(_factors(terms[0][0]))
    if len(factors) > 1:
        return frozenset(_held([part for part in factors if not _is_number(part[0])], _product))
    text = factors[0][0]
    if _is_number(text):
        return frozenset()
    base, *power = _cut(text, POWERS)
    if power:
        arguments = [base, "".join(power[1:])]
    else:
        arguments = _cut(text[text.index("(") + 1 : -1], ARGUMENTS)[::2] if "(" in text else []
    return frozenset({text}).union(*map(subexpressions, arguments))


def _held(parts: Sequence[Part], joined: Callable[[Sequence[Part]], str]) -> Iterator[str]:
    """What the parts hold, every two of them, and all of them."""
    for part, _ in parts:
        yield from subexpressions(part)
    yield from map(joined, itertools.combinations(parts, 2))
    if len(parts) > 2 or (parts and parts[0][1] < 0):
        yield joined(parts)


def _cut(text: str, between: re.Pattern[str]) -> list[str]:
    """The parts of a text, and what lies between them: `["g", " * ", "exp(m * v)"]`."""
    pieces = between.split(text)
    if len(pieces) == 1 or "(" not in text:
        return pieces
    cut: list[str] = []
    depth = 0
    for piece in pieces:
        if depth:
            cut[-1] += piece
        else:
            cut.append(piece)
        depth += piece.count("(") - piece.count(")")
    return cut


def _bare(text: str) -> str:
    """The text without the brackets around all of it."""
    return text[1:-1] if text.startswith("(") and len(_cut(text, OPERANDS)) == 1 else text


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


def _terms(text: str, sign: int) -> Iterator[Part]:
    """The terms of a sum, at any depth; of all else, itself without its sign and its brackets."""
    first, *others = _cut(text, TERMS)
    if others:
        yield from _terms(first, sign)
        for between, term in zip(others[::2], others[1::2], strict=True):
            yield from _terms(term, sign if between == " + " else -sign)
    elif (bare := _bare(text)) != text:
        yield from _terms(bare, sign)
    elif text.startswith("-") and not _is_number(text) and len(_cut(text, FACTORS)) == 1:
        yield from _terms(text[1:], -sign)
    else:
        yield text, sign


def _factors(term: str) -> Iterator[Part]:
    """The factors of a product, at any depth above the line; of all else, itself."""
    cut = _cut(term, FACTORS)
    for between, factor in zip([" * ", *cut[1::2]], cut[::2], strict=True):
        if between == " / ":
            yield factor, -1
        elif (bare := _bare(factor)) != factor and len(_cut(bare, TERMS)) == 1:
            yield from _factors(bare)
        else:
            yield factor, 1


class Weighed(NamedTuple):
    """A term as a number times the rest of it."""

    weight: float
    rest: str
    """`1` if the term is a number."""
    kind: str
    """`sum` or `product` if the rest is one, and needs brackets as a factor."""


def _sum(terms: Sequence[Part]) -> str:
    """A sum's text: a number in front, then by text; the first term positive, and the first that
    is no number with no number in front."""
    weighed = sorted(
        (_weigh(*part) for part in terms), key=lambda each: (each.rest != "1", each.rest)
    )
    scale = next((abs(each.weight) for each in weighed if each.rest != "1"), 1.0)
    if not all(math.isfinite(each.weight / scale) for each in weighed):
        scale = 1.0
    lead = math.copysign(scale, weighed[0].weight)
    total = ""
    for weight, rest, kind in weighed:
        number = print_number(float(f"{abs(weight / scale):.12g}"))
        if rest == "1":
            text = number
        elif number == "1":
            text = f"({rest})" if total and kind == "sum" else rest
        else:
            text = f"{number} * ({rest})" if kind else f"{number} * {rest}"
        total += (" + " if weight / lead > 0 else " - ") * bool(total) + text
    return total


def _weigh(term: str, sign: int) -> Weighed:
    weight, rest = float(sign), []
    for base, power in _factors(term):
        if power > 0 and _is_number(base):
            weight *= float(base)
        else:
            rest.append((base, power))
    text = _product(rest)
    if len(rest) == 1 and rest[0][1] > 0:
        bare = _bare(text)
        return Weighed(weight, bare, "" if bare == text else "sum")
    return Weighed(weight, text, "product" if rest else "")


def _product(factors: Sequence[Part]) -> str:
    """A product in the normal form's order: what is divided by comes last."""
    above = [base for base, power in factors if power > 0]
    below = [base for base, power in factors if power < 0]
    return " / ".join([" * ".join(above) or "1", *below])
