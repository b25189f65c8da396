"""The controller (sec. 3.2, Figure 3): an LSTM that writes update rules, one token per step.

Each position has its own softmax, since the operand bank grows; the chosen token is fed back in;
forbidden tokens have a logit of -infinity (sec. 4.1).

*Readings of the paper*: a chosen token is fed in as an embedding of the LSTM's size, shared by the
positions at which the same word can occur; the first step reads its own embedding; "weights
are initialized uniformly at random between -0.08 and 0.08" means all of them, biases included.

Controllers of several seeds, the *replicas*, lie side by side in tensors whose first dimension is
theirs: a search has one, a comparison many. No number of one depends on another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nos_repro.rules.space import Space
from nos_repro.search.unroll import change, run, unroll


class Samples(NamedTuple):
    """Strings, and how likely each of their tokens was when it was drawn.

    ``tokens`` are indices into `Space.choices(position)`, not words.
    """

    tokens: Int64[Tensor, "replicas strings length"]
    log_probs: Float[Tensor, "replicas strings length"]


class Scores(NamedTuple):
    """What the controllers say about given strings; differentiable.

    ``choices`` are the log-probabilities of every word at every position, -inf where forbidden and
    for what fills up the positions that have fewer words than others.
    """

    log_probs: Float[Tensor, "replicas strings length"]
    choices: Float[Tensor, "replicas strings length words"]

    @property
    def entropy(self) -> Float[Tensor, "replicas strings length"]:
        """Of each token given those before it, in nats. A forbidden word adds nothing to it, nor
        NaN to the gradient."""
        finite = self.choices.masked_fill(self.choices == -math.inf, 0.0)
        return -(self.choices.exp() * finite).sum(-1)

    def nats(self) -> Float[Tensor, " replicas"]:
        """The entropy of the tokens, summed over a string and averaged over the strings: if this
        policy wrote them, an unbiased estimate of the entropy of its strings. That of its rules
        is far smaller (`search.entropy`)."""
        return self.entropy.detach().sum(2).mean(1)

    def of(self, strings: slice) -> Scores:
        """Of some strings."""
        return Scores(self.log_probs[:, strings], self.choices[:, strings])


class Controller(nn.Module):
    """A distribution over the strings of a space, for each seed.

    hidden: the LSTM's size; init: weights are drawn from U(-init, init), seeded by ``seeds``.
    """

    rows: Tensor
    forbidden: Tensor

    def __init__(
        self, space: Space, hidden: int = 150, init: float = 0.08, *, seeds: Sequence[int] = (0,)
    ) -> None:
        super().__init__()
        self.space = space
        self._choices = [space.choices(position) for position in range(space.length)]
        self._places = [{word: at for at, word in enumerate(each)} for each in self._choices]
        words = list(dict.fromkeys(word for choices in self._choices for word in choices))
        replicas, length, widest = len(seeds), space.length, max(map(len, self._choices))
        self.embedding = _zeros(replicas, 1 + len(words), hidden)  # row 0: before the first token
        self.weight_in = _zeros(replicas, 4 * hidden, hidden)
        self.weight_back = _zeros(replicas, 4 * hidden, hidden)
        self.bias_in = _zeros(replicas, 4 * hidden)
        self.bias_back = _zeros(replicas, 4 * hidden)
        self.softmax_weight = _zeros(replicas, length, widest, hidden)
        self.softmax_bias = _zeros(replicas, length, widest)
        self._initialise(init, seeds)
        row = {word: number for number, word in enumerate(words, start=1)}
        rows = torch.zeros(length, widest, dtype=torch.long)
        for position, choices in enumerate(self._choices):
            rows[position, : len(choices)] = torch.tensor([row[word] for word in choices])
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("forbidden", self._masks(widest), persistent=False)
        self._permitted: list[list[list[bool]]] = self.forbidden.isfinite().tolist()

    def _initialise(self, bound: float, seeds: Sequence[int]) -> None:
        with torch.no_grad():
            for replica, seed in enumerate(seeds):
                generator = torch.Generator().manual_seed(seed)
                for tensor in (
                    self.embedding, self.weight_in, self.weight_back, self.bias_in, self.bias_back
                ):  # fmt: skip
                    tensor[replica].uniform_(-bound, bound, generator=generator)
                for position, choices in enumerate(self._choices):
                    for tensor in (self.softmax_weight, self.softmax_bias):
                        some = tensor[replica, position, : len(choices)]
                        some.uniform_(-bound, bound, generator=generator)

    def _masks(self, widest: int) -> Float[Tensor, "length words words"]:
        """For each position and the word before it: 0 where a word is allowed, -inf where not.

        What a space allows depends only on the position and the previous word.
        """
        masks = torch.full((self.space.length, widest, widest), -math.inf)
        for position, choices in enumerate(self._choices):
            before = self._choices[position - 1] if position else ("",)
            for at, word in enumerate(before):
                prefix = [*[""] * (position - 1), word][:position]
                allowed = torch.tensor(self.space.allowed(prefix))
                masks[position, at, : len(choices)][allowed] = 0.0
        return masks

    @torch.no_grad()
    def sample(
        self,
        uniforms: Float[Tensor, "replicas strings length"],
        chosen: Sequence[int] | None = None,
    ) -> Samples:
        """Draws strings, token by token: each is the first whose cumulative probability exceeds a
        number drawn from [0, 1). ``chosen``: the places of the replicas that draw."""
        replicas, strings, length = uniforms.shape
        whole = chosen is None or list(chosen) == list(range(len(self.embedding)))
        those = slice(None) if whole or chosen is None else list(chosen)
        inputs = self._inputs()[those]
        back = self.weight_back[those].transpose(1, 2)
        weights, biases = self.softmax_weight[those].transpose(2, 3), self.softmax_bias[those]
        each = torch.arange(replicas)[:, None]
        last = torch.zeros(replicas, strings, dtype=torch.long)  # the first mask's only row
        fed = last
        hidden = cell = inputs.new_zeros(replicas, strings, back.shape[1])
        tokens, log_probs = [], []
        for position in range(length):
            gates = torch.baddbmm(inputs[each, fed], hidden, back)
            i, f, g, o = gates.chunk(4, -1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            logits = torch.baddbmm(biases[:, position, None], hidden, weights[:, position])
            choices = torch.log_softmax(logits + self.forbidden[position][last], -1)
            below = choices.double().exp().cumsum(-1)
            chance = uniforms[..., position, None] * below[..., -1:]
            last = (below <= chance).sum(-1)
            fed = self.rows[position][last]
            tokens.append(last)
            log_probs.append(choices.gather(-1, last[..., None])[..., 0])
        return Samples(torch.stack(tokens, -1), torch.stack(log_probs, -1))

    def score(self, tokens: Int64[Tensor, "replicas strings length"]) -> Scores:
        """The log-probabilities of given strings."""
        inputs = self._read(tokens, self._inputs())
        hidden = unroll(inputs, self.weight_back)
        logits = hidden @ self.softmax_weight.transpose(2, 3) + self.softmax_bias[:, :, None]
        before = torch.nn.functional.pad(tokens[..., :-1], (1, 0))
        mask = self.forbidden[torch.arange(tokens.shape[2]), before]
        choices = torch.log_softmax(logits.transpose(1, 2) + mask, -1)
        return Scores(choices.gather(-1, tokens[..., None])[..., 0], choices)

    @torch.no_grad()
    def changes(
        self, tokens: Int64[Tensor, "replicas strings length"]
    ) -> Callable[[Sequence[Tensor]], Float[Tensor, "replicas strings length words"]]:
        """How fast ``score(tokens).choices`` change as the parameters move: a function of a
        direction for each of `parameters()`."""
        known = run(self._read(tokens, self._inputs()), self.weight_back)
        hidden, weight = known.hidden[:, 1:], self.softmax_weight.transpose(2, 3)
        chances = self.score(tokens).choices.exp()

        @torch.no_grad()
        def along(directions: Sequence[Tensor]) -> Tensor:
            words, first, back, bias, other_bias, softmax, softmax_bias = directions
            table = torch.bmm(words, self.weight_in.transpose(1, 2))
            table = table + torch.bmm(self.embedding, first.transpose(1, 2))
            table = table + (bias + other_bias)[:, None]
            moved = change(known, self._read(tokens, table), back)
            logits = moved @ weight + hidden @ softmax.transpose(2, 3) + softmax_bias[:, :, None]
            logits = logits.transpose(1, 2)
            return logits - (chances * logits).sum(-1, keepdim=True)

        return along

    def _read(
        self,
        tokens: Int64[Tensor, "replicas strings length"],
        table: Float[Tensor, "replicas words gates"],
    ) -> Float[Tensor, "replicas length strings gates"]:
        """What a string's steps read from a table of all words: each the token before it."""
        replicas, strings, length = tokens.shape
        fed = torch.nn.functional.pad(self.rows[torch.arange(length), tokens][..., :-1], (1, 0))
        fed = fed.transpose(1, 2).reshape(replicas, length * strings)
        read = torch.nn.functional.one_hot(fed, table.shape[1]).to(table.dtype)
        return torch.bmm(read, table).view(replicas, length, strings, -1)

    def _inputs(self) -> Float[Tensor, "replicas words gates"]:
        """What each word adds to the LSTM's gates."""
        bias = (self.bias_in + self.bias_back)[..., None]
        return torch.baddbmm(bias, self.weight_in, self.embedding.transpose(1, 2)).transpose(1, 2)

    def encode(self, strings: Sequence[Sequence[str]]) -> Int64[Tensor, "strings length"]:
        """Words to indices. Raises RuleError for a string that is not in the space."""
        return torch.tensor([self._encoded(string) for string in strings], dtype=torch.long)

    def _encoded(self, string: Sequence[str]) -> list[int]:
        try:
            places = [at[word] for at, word in zip(self._places, string, strict=True)]
        except (KeyError, ValueError, TypeError):
            places = []
        pairs = zip(self._permitted, [0, *places], places, strict=False)
        if not places or not all(may[before][place] for may, before, place in pairs):
            self.space.check(string)
        return places

    def decode(self, tokens: Int64[Tensor, "strings length"]) -> list[list[str]]:
        """Indices to words."""
        return [
            [choices[place] for choices, place in zip(self._choices, string, strict=True)]
            for string in tokens.tolist()
        ]


def _zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))
