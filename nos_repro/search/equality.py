"""When two rules count as one: their normal forms have the same numeric fingerprint."""

from __future__ import annotations

import functools

from nos_repro.rules.rule import Rule


def key_of(rule: Rule) -> tuple[str, str]:
    """What equal rules share, and the text of their normal form."""
    text = str(rule.normal())
    return key_of_text(text), text


@functools.lru_cache(maxsize=2**16)
def key_of_text(text: str) -> str:
    """The key of the rule that this text writes."""
    return Rule.parse(text).fingerprint()
