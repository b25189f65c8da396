"""The controller (sec. 3.2, Figure 3): an LSTM that writes update rules, one token per step.

Each position has its own softmax, since the operand bank grows; the chosen token is fed back in;
forbidden tokens have a logit of -infinity (sec. 4.1).

*Readings of the paper*: a chosen token is fed in as an embedding of the LSTM's size, shared by the
positions at which the same word can occur; the first step reads its own embedding; "weights
are initialized uniformly at random between -0.08 and 0.08" means all of them, biases included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nos_repro.rules.space import Space


class Samples(NamedTuple):
    """Strings, and how likely each of their tokens was when it was drawn.

    ``tokens`` are indices into `Space.choices(position)`, not words.
    """

    tokens: Int64[Tensor, "strings length"]
    log_probs: Float[Tensor, "strings length"]
    entropy: Float[Tensor, "strings length"]


class Scores(NamedTuple):
    """What the controller says about given strings; differentiable.

    ``choices[p]`` are the log-probabilities of every word at position p, -inf where forbidden.
    """

    log_probs: Float[Tensor, "strings length"]
    entropy: Float[Tensor, "strings length"]
    choices: list[Float[Tensor, "strings words"]]


class Controller(nn.Module):
    """A distribution over the strings of a space.

    hidden: the LSTM's size; init: weights are drawn from U(-init, init), seeded by ``seed``.
    """

    def __init__(
        self, space: Space, hidden: int = 150, init: float = 0.08, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.space = space
        self._choices = [space.choices(position) for position in range(space.length)]
        words = list(dict.fromkeys(word for choices in self._choices for word in choices))
        row = {word: number for number, word in enumerate(words, start=1)}  # 0: before the first
        self.embedding = nn.Embedding(1 + len(words), hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.softmaxes = nn.ModuleList(nn.Linear(hidden, len(choices)) for choices in self._choices)
        for position, choices in enumerate(self._choices):
            self.register_buffer(f"_rows{position}", torch.tensor([row[word] for word in choices]))
            self.register_buffer(f"_forbidden{position}", self._mask(position), persistent=False)
        self._initialise(init, seed)

    def _initialise(self, bound: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    def _mask(self, position: int) -> Tensor:
        """0 where a word is allowed and -inf where not; one row for each word that may precede it.

        What a space allows depends only on the position and the previous word.
        """
        before = self._choices[position - 1] if position else ("",)
        allowed = [self.space.allowed([*[""] * (position - 1), w][:position]) for w in before]
        return torch.where(torch.tensor(allowed), 0.0, -math.inf)

    @torch.no_grad()
    def sample(self, strings: int, generator: torch.Generator | None = None) -> Samples:
        """Draws strings, token by token."""
        tokens, log_probs, entropies = [], [], []
        last = torch.zeros(strings, dtype=torch.long)  # the first mask's only row
        fed = torch.zeros(strings, dtype=torch.long)
        state: tuple[Tensor, Tensor] | None = None
        for position in range(self.space.length):
            out, state = self.lstm(self.embedding(fed)[:, None], state)
            choices = self._log_softmax(position, out[:, 0], last)
            last = torch.multinomial(choices.exp(), 1, generator=generator)[:, 0]
            fed = self._rows(position)[last]
            tokens.append(last)
            log_probs.append(choices.gather(1, last[:, None])[:, 0])
            entropies.append(_entropy(choices))
        return Samples(torch.stack(tokens, 1), torch.stack(log_probs, 1), torch.stack(entropies, 1))

    def score(self, tokens: Int64[Tensor, "strings length"]) -> Scores:
        """The log-probabilities of given strings, for all positions in one call of the LSTM."""
        positions = range(self.space.length)
        fed = [torch.zeros(len(tokens), dtype=torch.long)]
        fed += [self._rows(position)[tokens[:, position]] for position in positions[:-1]]
        out, _ = self.lstm(self.embedding(torch.stack(fed, 1)))
        last = torch.zeros(len(tokens), dtype=torch.long)
        choices, log_probs = [], []
        for position in positions:
            choices.append(self._log_softmax(position, out[:, position], last))
            last = tokens[:, position]
            log_probs.append(choices[-1].gather(1, last[:, None])[:, 0])
        entropy = torch.stack([_entropy(each) for each in choices], 1)
        return Scores(torch.stack(log_probs, 1), entropy, choices)

    def encode(self, strings: Sequence[Sequence[str]]) -> Int64[Tensor, "strings length"]:
        """Words to indices. Raises RuleError for a string that is not in the space."""
        for string in strings:
            self.space.check(string)
        places = [[c.index(w) for c, w in zip(self._choices, s, strict=True)] for s in strings]
        return torch.tensor(places, dtype=torch.long).view(len(strings), self.space.length)

    def decode(self, tokens: Int64[Tensor, "strings length"]) -> list[list[str]]:
        """Indices to words."""
        return [
            [choices[place] for choices, place in zip(self._choices, string, strict=True)]
            for string in tokens.tolist()
        ]

    def _rows(self, position: int) -> Tensor:
        rows: Tensor = getattr(self, f"_rows{position}")
        return rows

    def _log_softmax(self, position: int, out: Tensor, last: Tensor) -> Tensor:
        forbidden: Tensor = getattr(self, f"_forbidden{position}")
        return torch.log_softmax(self.softmaxes[position](out) + forbidden[last], dim=1)


def _entropy(log_probs: Float[Tensor, "strings words"]) -> Float[Tensor, " strings"]:
    """In nats; a forbidden word adds nothing to it, nor NaN to the gradient."""
    finite = log_probs.masked_fill(log_probs == -math.inf, 0.0)
    return -(log_probs.exp() * finite).sum(1)
