"""Search spaces (sec. 4.1): subsets of the words, a number of iterations, sampling constraints.

The constraints are masks: for every position, which words may follow a prefix. A controller sets
the logits of the others to -infinity.

*Readings of the paper*: "force the controller to reuse one of the previously computed operands in
the subsequent iterations": from the second iteration on, at least one of the two operands is a
computed one. All strings of a space have one length; its size is their number.
"""

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from nos_repro.errors import ConfigError, RuleError, unknown
from nos_repro.rules.tokens import (
    BINARY_TOKENS,
    BINARY_TOKENS_2,
    GROUP,
    MOST_ITERATIONS,
    OPERAND_TOKENS,
    OPERAND_TOKENS_2,
    UNARY_TOKENS,
    UNARY_TOKENS_2,
    computed,
)


@dataclass(frozen=True)
class Space:
    """The strings of 5 * iterations tokens over some words. ConfigError if there are none."""

    operands: tuple[str, ...]
    """The operands, each a word of the language such as `g`, `sign(m)` or `1e-3*w`."""
    unary: tuple[str, ...]
    """The unary functions; `identity` is one of them."""
    binary: tuple[str, ...]
    """The binary functions; `keep_left` drops the second operand."""
    iterations: int
    """Groups of five tokens in a rule: 1 to 4."""
    distinct_operands: bool = True
    """Never the same operand twice in a group."""
    no_final_addition: bool = True
    """The last group does not add."""
    reuse_computed: bool = True
    """From the second group on, at least one operand is an earlier group's result."""
    no_final_keep_left: bool = False
    """The last group does not drop its second operand. *Not the papers'*: with `keep_left` last,
    the whole rule is one operand with a unary function, and all else in the string is dead: a
    policy that settles there writes few rules."""
    language: int = field(default=1, kw_only=True)
    """The edition of the language whose words it may have; `language` in a search's file."""

    def __post_init__(self) -> None:
        known: dict[str, Collection[str]] = {
            "operands": {**OPERAND_TOKENS, **OPERAND_TOKENS_2},
            "unary": {**UNARY_TOKENS, **UNARY_TOKENS_2},
            "binary": (*BINARY_TOKENS, *BINARY_TOKENS_2),
        }
        if self.language == 1:
            known = {"operands": OPERAND_TOKENS, "unary": UNARY_TOKENS, "binary": BINARY_TOKENS}
        for key, words in known.items():
            given = getattr(self, key)
            for word in given:
                if word not in words:
                    raise ConfigError(unknown(f"word in the space's {key}", word, words))
            if len(set(given)) < len(given):
                raise ConfigError(f"the space's {key} list a word twice: {' '.join(given)}")
        if not 1 <= self.iterations <= MOST_ITERATIONS:
            raise ConfigError(
                f"a space has 1 to {MOST_ITERATIONS} iterations, got {self.iterations}"
            )
        if self.size == 0:
            raise ConfigError(
                "no string satisfies the constraints of this space: give it more words"
            )

    @property
    def length(self) -> int:
        """Tokens in a string."""
        return self.iterations * len(GROUP)

    def choices(self, position: int) -> tuple[str, ...]:
        """The words of a position, in the order of its softmax; the operand bank grows."""
        iteration, slot = divmod(position, len(GROUP))
        if slot < 2:
            return self.operands + tuple(computed(earlier + 1) for earlier in range(iteration))
        return self.unary if slot < 4 else self.binary

    def allowed(self, prefix: Sequence[str]) -> list[bool]:
        """Which of `choices(len(prefix))` may follow the prefix; at least one may."""
        position = len(prefix)
        choices = self.choices(position)
        iteration, slot = divmod(position, len(GROUP))
        if slot == 0:
            return [self._pairs_with(word, iteration) > 0 for word in choices]
        if slot == 1:
            return [self._is_pair(prefix[-1], word, iteration) for word in choices]
        if slot == 4 and position == self.length - 1:
            return [word not in self._not_last for word in choices]
        return [True] * len(choices)

    @property
    def _not_last(self) -> set[str]:
        """Binary functions that the last group may not have."""
        given = {"+": self.no_final_addition, "keep_left": self.no_final_keep_left}
        return {word for word, holds in given.items() if holds}

    def _is_pair(self, first: str, second: str, iteration: int) -> bool:
        reused = iteration == 0 or first.startswith("#") or second.startswith("#")
        return (first != second or not self.distinct_operands) and (
            reused or not self.reuse_computed
        )

    def _pairs_with(self, first: str, iteration: int) -> int:
        """How many second operands may go with a first one."""
        given = len(self.operands)
        bank = given + iteration
        if iteration and self.reuse_computed and not first.startswith("#"):
            return iteration
        return bank - self.distinct_operands

    @property
    def size(self) -> int:
        """The number of strings."""
        groups = []
        for iteration in range(self.iterations):
            last = iteration == self.iterations - 1
            firsts = self.choices(iteration * len(GROUP))
            pairs = sum(self._pairs_with(first, iteration) for first in firsts)
            binary = len(set(self.binary) - (self._not_last if last else set()))
            groups.append(pairs * len(self.unary) ** 2 * binary)
        return math.prod(groups)

    def sample(self, source: random.Random, prefix: Sequence[str] = ()) -> list[str]:
        """A string, drawn uniformly from those that begin with the prefix."""
        tokens = list(prefix)
        for position in range(len(tokens), self.length):
            iteration, slot = divmod(position, len(GROUP))
            choices = self.choices(position)
            weights: list[float] = [float(may) for may in self.allowed(tokens)]
            if slot == 0:  # in proportion to the number of second operands that go with it
                weights = [float(self._pairs_with(word, iteration)) for word in choices]
            tokens += source.choices(choices, weights)
        return tokens

    def contains(self, tokens: Sequence[str]) -> bool:
        """Whether the string belongs to the space."""
        try:
            self.check(tokens)
        except RuleError:
            return False
        return True

    def check(self, tokens: Sequence[str]) -> None:
        """Raises RuleError unless the string belongs to the space."""
        if len(tokens) != self.length:
            raise RuleError(f"this space has strings of {self.length} tokens, got {len(tokens)}")
        for position, token in enumerate(tokens):
            choices, mask = self.choices(position), self.allowed(tokens[:position])
            words = [word for word, may in zip(choices, mask, strict=True) if may]
            if token not in words:
                what = f"token at position {position + 1} of this space"
                raise RuleError(unknown(what, token, words))


# The papers' vocabulary. Its order is frozen: an old controller's checkpoint keeps its meaning.
_ARXIV_OPERANDS = (
    "g g2 g3 m v gamma sign(g) sign(m) 1 2 noise 1e-4*w 1e-3*w 1e-2*w 1e-1*w adam rmsprop"
    " ld cd rd10 rd20 annealed_noise"
)
_ARXIV_UNARY = "identity neg exp log sqrt clip1e-5 clip1e-4 clip1e-3 drop0.1 drop0.3 drop0.5 sign"
_ARXIV_BINARY = "+ - * / ** keep_left"
# 000 lacks what 002 added.
_ICML_OPERANDS = " ".join(
    word
    for word in _ARXIV_OPERANDS.split()
    if word not in ("2", "ld", "cd", "rd10", "rd20", "annealed_noise")
)
_ICML_UNARY = _ARXIV_UNARY.replace(" sqrt", "")
_ICML_BINARY = _ARXIV_BINARY.replace(" **", "")


def _space(operands: str, unary: str, binary: str, iterations: int) -> Space:
    return Space(tuple(operands.split()), tuple(unary.split()), tuple(binary.split()), iterations)


# The papers work with subsets but do not print them; these are ours, with sizes in the papers'
# ranges: 002 10^6 to 10^11, 000 10^6 to 10^10. At depth 1 all words together make fewer than 10^6.
# fmt: off
SPACES: dict[str, Space] = {
    "arxiv-1": _space(_ARXIV_OPERANDS, _ARXIV_UNARY, _ARXIV_BINARY, 1),
    "arxiv-2": _space(_ARXIV_OPERANDS, _ARXIV_UNARY, _ARXIV_BINARY, 2),
    "arxiv-3": _space("g g2 m v sign(g) sign(m) 1 1e-3*w adam ld cd",
                      "identity exp sqrt clip1e-4 drop0.3", "+ - * /", 3),
    "arxiv-4": _space("g m adam sign(g) sign(m) 1 ld cd", "identity exp", "+ - * /", 4),
    "icml-1":  _space(_ICML_OPERANDS, _ICML_UNARY, _ICML_BINARY, 1),
    "icml-2":  _space(_ICML_OPERANDS, _ICML_UNARY, _ICML_BINARY, 2),
    "icml-3":  _space("g g2 m v sign(g) sign(m) 1 1e-3*w adam",
                      "identity exp clip1e-4 drop0.3", "+ - * /", 3),
}
# fmt: on
