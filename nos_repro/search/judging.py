"""What a string is trained as: its rule, or its rule's negative.

A controller writes a rule and its negative about equally often, and one of the two climbs. With a
*canonical sign*, a rule that never points downhill on the probes, while its negative does, is
trained as its negative; so both strings are one rule, and neither draw is lost.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from nos_repro.rules.rule import Rule
from nos_repro.rules.tree import Unary
from nos_repro.search.equality import key_of
from nos_repro.search.log import Event
from nos_repro.search.sample import Sample


class Meaning(NamedTuple):
    """The rule that is trained for a string, its key and its normal form; ``negated``: it is the
    negative of what the string says."""

    rule: Rule
    key: str
    text: str
    negated: bool

    @property
    def said(self) -> Event:
        """What an event says of the rule."""
        return {"rule": self.text, "key": self.key, **({"sign": -1} if self.negated else {})}


def meaning(sample: Sample, canonical_sign: bool) -> Meaning:
    """What a sample's string is trained as; remembered while the sample is under way, and longer,
    since a policy repeats itself."""
    return _meaning(tuple(sample.tokens), canonical_sign)


def negative(rule: Rule) -> Rule:
    """The rule with the other sign."""
    match rule.expr:
        case Unary("neg", x):
            return Rule(x, rule.states)
        case expr:
            return Rule(Unary("neg", expr, None), rule.states)


@functools.lru_cache(maxsize=2**12)
def _meaning(tokens: tuple[str, ...], canonical_sign: bool) -> Meaning:
    rule = Rule.from_tokens(tokens)
    negated = canonical_sign and _climbs(rule)
    if negated:
        rule = negative(rule)
    return Meaning(rule, *key_of(rule), negated)


def _climbs(rule: Rule) -> bool:
    """Whether the rule alone never points downhill, and its negative passes every probe."""
    from nos_repro.search.probe import probe

    return probe(rule) == "no descent" and probe(negative(rule)) is None
