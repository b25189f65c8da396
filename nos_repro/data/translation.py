"""The sides of a parallel text as word pieces; the training part is encoded once."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from nos_repro.data.decoded import decoded
from nos_repro.data.parallel import Pairs, ParallelCorpus
from nos_repro.data.wordpieces import END, WordPieces, learn_pieces, thinned
from nos_repro.errors import DataError

log = logging.getLogger(__name__)

FORMAT = "1"
"""Part of every key; to be changed when encoding changes."""

LINES = 100_000
"""How many are encoded at a time."""


class Sentences(NamedTuple):
    """Lines as pieces, end to end: line i is `ids[starts[i]:starts[i + 1]]`, its END included."""

    ids: Int32[Tensor, " pieces"]
    starts: Int64[Tensor, " lines_and_one"]

    @property
    def lengths(self) -> Int64[Tensor, " lines"]:
        return self.starts.diff()


class Encoded(NamedTuple):
    """Pairs as pieces."""

    source: Sentences
    target: Sentences


@dataclass(frozen=True)
class Limits:
    """Which pairs are accepted: neither side is empty or longer than `longest` pieces with END.

    Other pairs are an error; in the training part they are left out instead if `leave_out` is set.
    """

    longest: int
    leave_out: bool


def encoded_training(
    corpus: ParallelCorpus, data_dir: Path, *, vocabulary: int, most: int | None, limits: Limits
) -> tuple[WordPieces, Encoded]:
    """The vocabulary, learnt from the training part only, and that part in its pieces.

    Both are kept on disk under a digest of everything they depend on, and appear there complete or
    not at all. Raises DataError and ConfigError.
    """
    import sentencepiece

    content = corpus.digest()
    facts = f"{FORMAT} {sentencepiece.__version__} {content} {vocabulary} {most} {limits}"
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]

    def make() -> dict[str, Tensor]:
        pairs = corpus.read("train", most)
        if corpus.digest() != content:
            raise DataError(f"{corpus.where} changed while it was read\n  start again")
        lines = chain.from_iterable(thinned(side.lines) for side in pairs)
        pieces = WordPieces(learn_pieces(lines, vocabulary, corpus.where))
        source, target = encode(pairs, pieces, limits, part="train")
        return {
            "pieces": pieces.model,
            "source_ids": source.ids,
            "source_starts": source.starts,
            "target_ids": target.ids,
            "target_starts": target.starts,
        }

    arrays = decoded(data_dir, f"text-{key}", make)
    try:
        pieces = WordPieces(arrays["pieces"])
        sides = [Sentences(arrays[f"{s}_ids"], arrays[f"{s}_starts"]) for s in ("source", "target")]
    except RuntimeError as error:
        raise DataError(
            f".decoded/text-{key} is damaged ({error})\n  remove that folder; it will be made again"
        ) from None
    return pieces, Encoded(*sides)


def encode(pairs: Pairs, pieces: WordPieces, limits: Limits, *, part: str) -> Encoded:
    """The pairs in pieces. Raises DataError with file and line of the first unusable one."""
    encoded = Encoded(*(_side(text.lines, pieces) for text in pairs))
    lengths = torch.stack([side.lengths for side in encoded])
    bad = ((lengths == 1) | (lengths > limits.longest)).any(dim=0)
    count = int(bad.sum())
    if count == len(bad):
        raise DataError(f"{pairs.source.where}: every pair is empty or longer than task.longest")
    if not count:
        return encoded
    if not (limits.leave_out and part == "train"):
        index = int(bad.nonzero()[0])
        side, complaint = _complaint(lengths[:, index].tolist(), limits)
        raise DataError(
            f"{pairs[side].place(index)}: {complaint}"
            f"{f' ({count:,} such lines in all)' if count > 1 else ''}\n"
            f"  correct or remove the pair{_advice(part)}"
        )
    log.warning("%s: %d of %d pairs left out", pairs.source.where, count, len(bad))
    return Encoded(*(_kept(side, ~bad) for side in encoded))


def _complaint(lengths: list[int], limits: Limits) -> tuple[int, str]:
    """(side, what is wrong with it) for the first side with a fault."""
    for side, length in enumerate(lengths):
        if length == 1:
            return side, "an empty line"
        if length > limits.longest:
            return side, f"{length:,} word pieces, task.longest is {limits.longest:,}"
    raise AssertionError(lengths)


def _advice(part: str) -> str:
    return ", or have such pairs left out: task.leave_out=true" if part == "train" else ""


def _side(lines: list[str], pieces: WordPieces) -> Sentences:
    """All lines in pieces, some at a time: as Python's integers they take ten times the memory."""
    parts = [
        flat(pieces.encode(lines[start : start + LINES]))
        for start in range(0, max(1, len(lines)), LINES)
    ]
    lengths = torch.cat([part.lengths for part in parts])
    return Sentences(torch.cat([part.ids for part in parts]), _starts(lengths))


def _kept(side: Sentences, kept: Bool[Tensor, " lines"]) -> Sentences:
    """The lines to be kept."""
    every = side.ids[kept.repeat_interleave(side.lengths)]
    return Sentences(every, _starts(side.lengths[kept]))


def _starts(lengths: Int64[Tensor, " lines"]) -> Int64[Tensor, " lines_and_one"]:
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(dim=0)])


def flat(lines: list[list[int]]) -> Sentences:
    """Lines of ids end to end, with an END after each."""
    lengths = torch.tensor([len(line) + 1 for line in lines], dtype=torch.int64)
    starts = _starts(lengths)
    joined = chain.from_iterable((*line, END) for line in lines)
    ids = np.fromiter(joined, np.int32, int(starts[-1]))
    return Sentences(torch.from_numpy(ids), starts)
