"""A priority queue of the best rules so far (Abolafia et al. 2018, "Neural program synthesis with
priority queue training"): a controller is also taught to write them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

Entry = tuple[float, str, list[int]]
"""A reward, what the rule's writings share, and the first string that wrote it."""


class BestRules:
    """The best ``size`` different rules of each replica; ties go to the rule found first."""

    def __init__(self, size: int, replicas: int) -> None:
        self.size = size
        self.entries: list[list[Entry]] = [[] for _ in range(replicas)]

    def take(
        self,
        tokens: Int64[Tensor, "replicas strings length"],
        rewards: Float[Tensor, "replicas strings"],
        key_of: Callable[[list[int]], str],
    ) -> None:
        """Takes strings in that are good enough. A rule without a reward is never among the best,
        and of equal rules the first string stays."""
        for entries, strings, values in zip(
            self.entries, tokens.tolist(), rewards.tolist(), strict=True
        ):
            for string, reward in zip(strings, values, strict=True):
                worst = entries[-1][0] if len(entries) == self.size else 0.0
                if reward <= worst or any(string == known for _, _, known in entries):
                    continue
                key = key_of(string)
                if all(key != known for _, known, _ in entries):
                    entries.append((reward, key, string))
                    entries.sort(key=lambda entry: -entry[0])
                    del entries[self.size :]

    def __bool__(self) -> bool:
        return any(self.entries)

    def batch(
        self,
    ) -> tuple[Int64[Tensor, "replicas best length"], Float[Tensor, "replicas best"]]:
        """The strings, and their weights: equal ones that sum to 1, and 0 for what fills up a
        replica that has fewer rules than another."""
        import torch

        some = next(entries for entries in self.entries if entries)
        most = max(map(len, self.entries))
        tokens = torch.zeros(len(self.entries), most, len(some[0][2]), dtype=torch.long)
        weights = torch.zeros(len(self.entries), most)
        for replica, entries in enumerate(self.entries):
            strings = [string for _, _, string in entries or some]
            tokens[replica] = torch.tensor([strings[at % len(strings)] for at in range(most)])
            weights[replica, : len(entries)] = 1 / max(1, len(entries))
        return tokens, weights

    def keep(self, replicas: Sequence[int]) -> None:
        self.entries = [self.entries[replica] for replica in replicas]
