"""Parallel text: where it is looked for, and its training side as word pieces, encoded once.

`data: NAME` is one of

- `numbers`: number names, embedded;
- a folder NAME of the data folder with the parts of `multi30k`, `wmt14`, or plainly `train.en`,
  `train.de`, `val.en` and so on (the suffixes are the languages), each file plain or `.gz`;
- two files `NAME.en` and `NAME.de`: every twentieth pair or so is held out for validation, and as
  many for the test, at most 1,000 each.

An absolute path does as well as a name.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sentencepiece
import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from nos_repro.data import numbers
from nos_repro.data.decoded import decoded
from nos_repro.data.parallel import Pairs, read_pairs
from nos_repro.data.wordpieces import END, WordPieces, learn_pieces, thinned
from nos_repro.errors import DataError, unknown

log = logging.getLogger(__name__)

FORMAT = "1"
"""Part of every key: changed when encoding changes."""

HELD_OUT_OF, MOST_HELD_OUT = 20, 1000
SPLIT_SEED = 2017

LINES = 100_000
"""Encoded at a time."""

PARTS = ("train", "val", "test")
# fmt: off
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    # set: the names under which people have its parts, in the order in which they are tried
    "multi30k": {"test": ("test_2016_flickr", "test_2016", "test2016", "test")},
    "wmt14":    {"test": ("newstest2014", "test"), "val": ("newstest2013", "val", "valid", "dev")},
}
OTHERS = {"train": ("train",), "val": ("val", "valid", "dev"), "test": ("test",)}
# fmt: on


@dataclass(frozen=True)
class ParallelCorpus:
    """A parallel text that was found.

    `read` gives the pairs of a part, of `train` at most so many; `digest` is one of the content
    of its training side.
    """

    where: str
    read: Callable[[str, int | None], Pairs]
    digest: Callable[[], str]


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
    """What a pair must be: neither side empty, nor of more than `longest` pieces with its END.

    Others are an error, or, in the training part and where `leave_out` says so, left out.
    """

    longest: int
    leave_out: bool


def find_corpus(name: str, languages: tuple[str, str], data_dir: Path) -> ParallelCorpus:
    """The parallel text called `name`. Raises DataError saying what to put where."""
    if name == "numbers":
        return _number_names(languages)
    folder = data_dir / name
    if folder.is_dir():
        return _folder(folder, languages)
    both = [_file(folder.parent, (folder.name,), language) for language in languages]
    if all(both):
        return _two_files(both[0], both[1])  # type: ignore[arg-type]
    first, second = (f"{folder}.{language}" for language in languages)
    raise DataError(
        f"{unknown('parallel text', name, ('numbers', *NAMES))}\n"
        f"  neither a folder {folder}/ with train.{languages[0]}, train.{languages[1]} and so on,\n"
        f"  nor two files {first} and {second} (or .gz);\n"
        "  put one of them there, or name another folder by --data DIR or NOS_REPRO_DATA"
    )


def _number_names(languages: tuple[str, str]) -> ParallelCorpus:
    def read(part: str, most: int | None) -> Pairs:
        return numbers.number_names(part, languages, most)

    version = importlib.metadata.version("num2words")
    facts = f"{version} {numbers.SEED} {numbers.DIGITS} {numbers.SIZES} {languages}"
    return ParallelCorpus("number names", read, lambda: hashlib.sha256(facts.encode()).hexdigest())


def _folder(folder: Path, languages: tuple[str, str]) -> ParallelCorpus:
    """Raises DataError unless every part has both its sides."""
    own = NAMES.get(folder.name, {})
    files: dict[str, tuple[Path, Path]] = {}
    for part in PARTS:
        stems = own.get(part, OTHERS[part])
        sides = [_file(folder, stems, language) for language in languages]
        for language, side in zip(languages, sides, strict=True):
            if side is None:
                tried = " or ".join(f"{stem}.{language}" for stem in stems)
                raise DataError(f"{folder} has no {tried}, plain or .gz, for the part '{part}'")
        files[part] = (sides[0], sides[1])  # type: ignore[assignment]

    def read(part: str, most: int | None) -> Pairs:
        pairs = read_pairs(*files[part])
        return pairs if most is None else pairs.keep(range(min(most, len(pairs.source.lines))))

    return ParallelCorpus(str(folder), read, lambda: _digest(files["train"]))


def _two_files(source: Path, target: Path) -> ParallelCorpus:
    @functools.cache
    def split() -> dict[str, Pairs]:
        pairs = read_pairs(source, target)
        count = len(pairs.source.lines)
        held_out = min(count // HELD_OUT_OF, MOST_HELD_OUT)
        if not held_out:
            raise DataError(
                f"{source} has {count} lines: give at least {HELD_OUT_OF}, of which one is held out"
                " for validation and one for the test"
            )
        order = np.random.default_rng(SPLIT_SEED).permutation(count).tolist()
        cuts = {"val": order[:held_out], "test": order[held_out : 2 * held_out]}
        cuts["train"] = sorted(order[2 * held_out :])
        return {part: pairs.keep(chosen) for part, chosen in cuts.items()}

    def read(part: str, most: int | None) -> Pairs:
        pairs = split()[part]
        return pairs if most is None else pairs.keep(range(min(most, len(pairs.source.lines))))

    return ParallelCorpus(f"{source} and {target}", read, lambda: _digest((source, target)))


def _file(folder: Path, stems: tuple[str, ...], language: str) -> Path | None:
    for stem in stems:
        for name in (f"{stem}.{language}", f"{stem}.{language}.gz"):
            if (folder / name).is_file():
                return folder / name
    return None


def _digest(files: tuple[Path, Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def encoded_training(
    corpus: ParallelCorpus, data_dir: Path, *, vocabulary: int, most: int | None, limits: Limits
) -> tuple[WordPieces, Encoded]:
    """The vocabulary, learnt from the training part alone, and that part in its pieces.

    Both are kept on disk under a digest of everything they depend on, and appear there whole or
    not at all. Raises DataError and ConfigError.
    """
    facts = f"{FORMAT} {sentencepiece.__version__} {corpus.digest()} {vocabulary} {most} {limits}"
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]

    def make() -> dict[str, Tensor]:
        pairs = corpus.read("train", most)
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
    except (KeyError, RuntimeError) as error:
        raise DataError(
            f".decoded/text-{key} is damaged ({error})\n  remove that folder: it is made again"
        ) from None
    return pieces, Encoded(*sides)


def encode(pairs: Pairs, pieces: WordPieces, limits: Limits, *, part: str) -> Encoded:
    """The pairs in pieces. Raises DataError naming file and line of the first unusable one."""
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
            f"  mend or remove the pair{_advice(part)}"
        )
    log.warning("%s: %d of %d pairs left out", pairs.source.where, count, len(bad))
    return Encoded(*(_kept(side, ~bad) for side in encoded))


def _complaint(lengths: list[int], limits: Limits) -> tuple[int, str]:
    """(side, what is wrong with it), for the first side that has something wrong."""
    for side, length in enumerate(lengths):
        if length == 1:
            return side, "an empty line"
        if length > limits.longest:
            return side, f"{length:,} word pieces, task.longest is {limits.longest:,}"
    raise AssertionError(lengths)


def _advice(part: str) -> str:
    return ", or have such pairs left out: task.leave_out=true" if part == "train" else ""


def _side(lines: list[str], pieces: WordPieces) -> Sentences:
    """All lines in pieces, some at a time: as Python's numbers they take ten times the memory."""
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
