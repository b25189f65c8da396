"""The strings of a space by number, for tables over all of them.

String number k is the k-th of `all_strings`: the last group of five tokens runs fastest, and in a
group the last token. The groups of a string are chosen independently of each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache

from nos_repro.rules.space import Space
from nos_repro.rules.tokens import GROUP

Group = tuple[str, ...]


def all_strings(space: Space) -> Iterator[list[str]]:
    """Every string of the space, in the order of their numbers."""
    for groups in itertools.product(*_groups(space)):
        yield list(itertools.chain(*groups))


def string_of(space: Space, number: int) -> list[str]:
    """The string of that number, which is at least 0 and below `space.size`."""
    tokens: list[str] = []
    for groups in reversed(_groups(space)):
        number, place = divmod(number, len(groups))
        tokens = [*groups[place], *tokens]
    return tokens


def number_of(space: Space, tokens: Sequence[str]) -> int:
    """The number of a string. Raises RuleError if it is not of the space."""
    number, size = 0, len(GROUP)
    try:
        for iteration, places in enumerate(_places(space)):
            group = tuple(tokens[iteration * size : (iteration + 1) * size])
            number = number * len(places) + places[group]
    except KeyError:
        space.check(tokens)
        raise
    if len(tokens) != space.length:
        space.check(tokens)
    return number


@lru_cache(maxsize=16)
def _groups(space: Space) -> tuple[tuple[Group, ...], ...]:
    """For each iteration, the groups that it may be."""
    size = len(GROUP)
    prefix = _any_string(space)
    found = []
    for iteration in range(space.iterations):
        groups: list[Group] = [()]
        for _ in range(size):
            groups = [
                (*group, word)
                for group in groups
                for word in _words(space, [*prefix[: iteration * size], *group])
            ]
        found.append(tuple(groups))
    return tuple(found)


def _words(space: Space, prefix: Sequence[str]) -> list[str]:
    """What may follow a prefix."""
    pairs = zip(space.choices(len(prefix)), space.allowed(prefix), strict=True)
    return [word for word, may in pairs if may]


def _any_string(space: Space) -> list[str]:
    tokens: list[str] = []
    for _ in range(space.length):
        tokens.append(_words(space, tokens)[0])
    return tokens


@lru_cache(maxsize=16)
def _places(space: Space) -> tuple[dict[Group, int], ...]:
    return tuple({group: place for place, group in enumerate(groups)} for groups in _groups(space))
