"""Batches of sentence pairs of similar length, each with about the same number of word pieces.

The pairs are sorted by target length and cut into strips; each strip is sorted by source length and
cut into buckets of a few batches. An epoch shuffles each bucket, cuts it into its batches, and then
shuffles all batches. The number of batches in a bucket does not depend on the epoch, so every epoch
has the same number of steps and shows each pair once. The draws are a pure function of (seed,
epoch).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from nos_repro.data.translation import Encoded, Sentences
from nos_repro.data.wordpieces import BEGIN, PAD

ORDER = 3
"""First word of the seed: it keeps the stream apart from others of the same (seed, epoch)."""

BATCHES_A_BUCKET = 4
"""More mixes the pairs better, fewer pads less."""


class Buckets:
    """The batches of every epoch; `batch_size` is the average number of pairs in a batch."""

    def __init__(self, pairs: Encoded, batch_size: int) -> None:
        source, target = (side.lengths.numpy() for side in pairs)
        count = len(source)
        wanted = max(1, round(count / (batch_size * BATCHES_A_BUCKET)))
        strips = round(wanted**0.5)
        self._buckets: list[np.ndarray] = []
        for strip in _cut(np.lexsort((source, target)), source + target, strips):
            ordered = strip[np.lexsort((target[strip], source[strip]))]
            self._buckets += _cut(ordered, source + target, round(wanted / strips))
        each = max(1, round(count / (batch_size * len(self._buckets))))
        self._parts = [min(each, len(bucket)) for bucket in self._buckets]
        self.batches = sum(self._parts)

    def epoch(self, seed: int, epoch: int) -> list[Int64[Tensor, " batch"]]:
        """The pairs of each batch of an epoch, in the order in which they are shown."""
        draw = np.random.default_rng([ORDER, seed, epoch])
        batches: list[np.ndarray] = []
        for bucket, parts in zip(self._buckets, self._parts, strict=True):
            batches += np.array_split(draw.permutation(bucket), parts)
        return [torch.from_numpy(batches[i]) for i in draw.permutation(len(batches))]


def _cut(
    order: Int[np.ndarray, " pairs"], cost: Int[np.ndarray, " all"], parts: int
) -> list[Int[np.ndarray, " some"]]:
    """The pairs in that order, cut into parts of about the same cost; none is empty."""
    total = cost[order].cumsum()
    edges = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts)
    return [part for part in np.split(order, edges) if len(part)]


def padded(
    sentences: Sentences, chosen: Int64[Tensor, " batch"], *, begin: bool = False
) -> Int64[Tensor, "batch longest"]:
    """The chosen lines, padded with PAD; if `begin`, each starts with BEGIN."""
    first = sentences.starts[chosen]
    lengths = sentences.starts[chosen + 1] - first
    places = torch.arange(int(lengths.max()))
    inside = places < lengths[:, None]
    ids = sentences.ids[torch.where(inside, first[:, None] + places, 0)].long()
    ids = torch.where(inside, ids, PAD)
    return torch.nn.functional.pad(ids, (1, 0), value=BEGIN) if begin else ids
