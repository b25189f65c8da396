"""Claims about the language of update rules, which the language itself decides, at no scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nos_repro.report.claims.evidence import ANY_SCALE, Effect, Finding, every, fact, single
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.results import Results
from nos_repro.rules.rule import Rule

WORDS_AN_ITERATION = 5


@CLAIM_TESTS.register("tokens")
@dataclass(frozen=True)
class TokensTest(ClaimTest):
    """Each of the ``rules`` can be written in this number of ``iterations``."""

    rules: Sequence[str]
    iterations: int

    def __post_init__(self) -> None:
        for text in self.rules:
            Rule.parse(text)

    def judge(self, found: Results, scale: str) -> Finding:
        lengths = {text: len(Rule.parse(text).tokens() or ()) for text in self.rules}
        most = WORDS_AN_ITERATION * self.iterations
        effects = [
            fact(f"{text}: {length} tokens", 0 < length <= most) for text, length in lengths.items()
        ]
        return _finding(effects, "; ".join(effect.what for effect in effects))


@CLAIM_TESTS.register("equal_rules")
@dataclass(frozen=True)
class EqualTest(ClaimTest):
    """The rules of each of the ``pairs`` are one, by normal form and by what they do in a probe."""

    pairs: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for one, other in self.pairs:
            Rule.parse(one), Rule.parse(other)

    def judge(self, found: Results, scale: str) -> Finding:
        effects, said = [], []
        for one, other in self.pairs:
            a, b = Rule.parse(one), Rule.parse(other)
            same = a.normal() == b.normal() and a.fingerprint() == b.fingerprint()
            effects.append(fact(f"{one} is {other}", same))
            said.append(f"{one} {'is' if same else 'is not'} {other}")
        return _finding(effects, "; ".join(said))


def _finding(effects: list[Effect], reason: str) -> Finding:
    return Finding(
        ANY_SCALE, every([single(effect) for effect in effects]).verdict, reason, effects
    )
