"""When two rules count as one: their normal forms have the same numeric fingerprint."""

from __future__ import annotations

import functools

from nos_repro.rules.fingerprint import fingerprint
from nos_repro.rules.rule import Rule


def key_of(rule: Rule) -> tuple[str, str]:
    """What equal rules share, and the text of their normal form."""
    text = str(rule.normal())
    return _fingerprint(text), text


@functools.lru_cache(maxsize=2**16)
def key_of_text(text: str) -> str:
    """The key of the rule that this text writes; it need not be a normal form."""
    return key_of(Rule.parse(text))[0]


@functools.lru_cache(maxsize=2**16)
def _fingerprint(normal: str) -> str:
    rule = Rule.parse(normal)
    return fingerprint(rule.expr, rule.states)
