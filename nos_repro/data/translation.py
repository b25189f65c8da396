"""The sides of a parallel text as word pieces; the training part is encoded once."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64, UInt8
from torch import Tensor

from nos_repro.data.cores import available_cores
from nos_repro.data.decoded import (
    LongArray,
    decoded_in_parts,
    read_array,
    read_arrays,
    write_arrays,
)
from nos_repro.data.parallel import Pairs, ParallelCorpus
from nos_repro.data.wordpieces import END, LineSample, WordPieces, learn_pieces
from nos_repro.data.workers import in_order
from nos_repro.errors import DataError

log = logging.getLogger(__name__)

FORMAT = "2"
"""Part of every key; to be changed when encoding, or the lines to learn from, change."""

BLOCK = 10_000
"""Pairs that are encoded and stored at a time."""

FEW_BLOCKS = 8
"""So many are encoded faster in this process than others start."""


SIDES = ("source", "target")

Blocks = Callable[[], Iterator[Pairs]]
"""The training pairs, some at a time, from the first one on at each call."""


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
    not at all. The text is read as a stream, and encoded in parts by a process per core: WMT14's
    4.5 million pairs take less than 2 GB of memory. A process that is killed leaves its parts to
    the next one. Raises DataError and ConfigError.
    """
    import sentencepiece

    content = corpus.digest()
    facts = f"{FORMAT} {sentencepiece.__version__} {content} {vocabulary} {most} {limits}"
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]

    def fill(folder: Path) -> dict[str, LongArray]:
        blocks = corpus.training(most, BLOCK)
        pieces = _learned(folder / "pieces.npz", blocks, vocabulary, corpus.where)
        parts = _encoded_parts(folder, blocks, pieces, limits)
        if corpus.digest() != content:
            raise DataError(f"{corpus.where} changed while it was read\n  start again")
        _judge([part.verdict for part in parts], corpus.where, limits, part="train")
        return {"pieces": _whole(pieces.model.numpy()), **_gathered(parts)}

    arrays = decoded_in_parts(data_dir, f"text-{key}", fill)
    try:
        pieces = WordPieces(arrays["pieces"])
        sides = [Sentences(arrays[f"{s}_ids"], arrays[f"{s}_starts"]) for s in SIDES]
    except RuntimeError as error:
        raise DataError(
            f".decoded/text-{key} is damaged ({error})\n  remove that folder; it will be made again"
        ) from None
    return pieces, Encoded(*sides)


def _learned(path: Path, blocks: Blocks, vocabulary: int, where: str) -> WordPieces:
    """The vocabulary that is kept at this path, or learnt from the blocks and put there."""
    kept = read_arrays(path)
    if kept is None:
        samples = LineSample(), LineSample()
        for pairs in blocks():
            for sample, text in zip(samples, pairs, strict=True):
                sample.take(text.lines)
        lines = [line for sample in samples for line in sample.lines]
        few = len(lines) <= FEW_BLOCKS * BLOCK
        learn = partial(_learn, lines, vocabulary)  # elsewhere, hundreds of MB are given back
        (model,) = in_order(learn, [where], workers=0 if few else 1)
        kept = {"model": model.numpy()}
        write_arrays(path, kept)
    return WordPieces(torch.from_numpy(kept["model"]))


def _learn(lines: list[str], vocabulary: int, where: str) -> UInt8[Tensor, " bytes"]:
    return learn_pieces(lines, vocabulary, where)


class _Part(NamedTuple):
    """A file with the pieces of up to BLOCK pairs."""

    path: Path
    verdict: Verdict
    lengths: tuple[np.ndarray, ...]
    """Of the lines of each side."""


def _encoded_parts(folder: Path, blocks: Blocks, pieces: WordPieces, limits: Limits) -> list[_Part]:
    """The files with all training pairs, in order; those that are in the folder are kept. A process
    per core makes the others. Raises DataError, and OSError if one cannot be written."""
    paths: list[Path] = []

    def missing() -> Iterator[tuple[Path, Pairs]]:
        for number, pairs in enumerate(blocks()):
            path = folder / f"{number * BLOCK}-{BLOCK}.npz"
            paths.append(path)
            if read_arrays(path) is None:
                yield path, pairs

    jobs = missing()
    first = list(islice(jobs, FEW_BLOCKS + 1))
    workers = available_cores() if len(first) > FEW_BLOCKS else 1
    encode_one = partial(_encode_part, pieces, limits, threads=1 if workers > 1 else None)
    for refusal in in_order(encode_one, chain(first, jobs), workers if workers > 1 else 0):
        if refusal is not None:
            raise OSError(*refusal)
    return [_read_part(path) for path in paths]


def _encode_part(
    pieces: WordPieces, limits: Limits, job: tuple[Path, Pairs], *, threads: int | None
) -> tuple[int, str] | None:
    """Writes the file of a part; returns errno and reason if the system refuses."""
    path, pairs = job
    encoded, verdict = _encode(pairs, pieces, limits, threads)
    arrays = {
        f"{name}_{key}": values.numpy()
        for name, side in zip(SIDES, encoded, strict=True)
        for key, values in (("ids", side.ids), ("lengths", side.lengths.int()))
    }
    try:
        write_arrays(path, {**arrays, "verdict": np.array(verdict, dtype=np.str_)})
    except OSError as error:
        return error.errno or 0, error.strerror or str(error)
    return None


def _read_part(path: Path) -> _Part:
    """Raises OSError if another process has removed it: it was faster."""
    arrays = read_arrays(path)
    if arrays is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    pairs, bad, complaint = arrays["verdict"].tolist()
    lengths = tuple(arrays[f"{name}_lengths"] for name in SIDES)
    return _Part(path, Verdict(int(pairs), int(bad), complaint), lengths)


def _gathered(parts: Sequence[_Part]) -> dict[str, LongArray]:
    """The sentences of all parts; only their lengths are in memory."""
    arrays = {}
    for i, name in enumerate(SIDES):
        lengths = [part.lengths[i].astype(np.int64) for part in parts]
        starts = _starts(torch.from_numpy(np.concatenate(lengths)))
        ids = map(partial(read_array, name=f"{name}_ids"), (part.path for part in parts))
        arrays[f"{name}_ids"] = LongArray(np.int32, int(starts[-1]), ids)
        arrays[f"{name}_starts"] = _whole(starts.numpy())
    return arrays


def _whole(array: np.ndarray) -> LongArray:
    return LongArray(array.dtype.type, len(array), [array])


class Verdict(NamedTuple):
    """How many pairs were looked at, how many of them are unusable, and what is wrong with the
    first of these: `FILE, line N: WHAT`."""

    pairs: int
    bad: int
    complaint: str


def encode(pairs: Pairs, pieces: WordPieces, limits: Limits, *, part: str) -> Encoded:
    """The pairs in pieces. Raises DataError with file and line of the first unusable one."""
    encoded, verdict = _encode(pairs, pieces, limits, None)
    _judge([verdict], pairs.source.where, limits, part=part)
    return encoded


def _encode(
    pairs: Pairs, pieces: WordPieces, limits: Limits, threads: int | None
) -> tuple[Encoded, Verdict]:
    """The usable pairs in pieces, and what there is to say about the others."""
    encoded = Encoded(*(_side(text.lines, pieces, threads) for text in pairs))
    lengths = torch.stack([side.lengths for side in encoded])
    bad = ((lengths == 1) | (lengths > limits.longest)).any(dim=0)
    count = int(bad.sum())
    if not count:
        return encoded, Verdict(len(bad), 0, "")
    index = int(bad.nonzero()[0])
    side, complaint = _complaint(lengths[:, index].tolist(), limits)
    verdict = Verdict(len(bad), count, f"{pairs[side].place(index)}: {complaint}")
    return Encoded(*(_kept(side, ~bad) for side in encoded)), verdict


def _judge(verdicts: Sequence[Verdict], where: str, limits: Limits, *, part: str) -> None:
    """Raises DataError if pairs are unusable, and must not be left out or leave none."""
    pairs, bad = sum(v.pairs for v in verdicts), sum(v.bad for v in verdicts)
    if bad == pairs:
        raise DataError(f"{where}: every pair is empty or longer than task.longest")
    if bad and not (limits.leave_out and part == "train"):
        complaint = next(verdict.complaint for verdict in verdicts if verdict.bad)
        raise DataError(
            f"{complaint}{f' ({bad:,} such lines in all)' if bad > 1 else ''}\n"
            f"  correct or remove the pair{_advice(part)}"
        )
    if bad:
        log.warning("%s: %d of %d pairs left out", where, bad, pairs)


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


def _side(lines: list[str], pieces: WordPieces, threads: int | None) -> Sentences:
    """All lines in pieces, some at a time: as Python's integers they take ten times the memory."""
    parts = [
        flat(pieces.encode(lines[start : start + BLOCK], threads))
        for start in range(0, max(1, len(lines)), BLOCK)
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
