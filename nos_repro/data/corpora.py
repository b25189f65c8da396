"""Corpora for language models: text as word numbers, and the registry of corpora by name.

Every line ends with `<eos>`, a word like any other. The vocabulary is torchtext's: `<unk>` and
`<eos>`, then the training part's words by frequency; all other words become `<unk>`.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nos_repro.data.files import refusals_named
from nos_repro.errors import DataError
from nos_repro.registry import Registry, require_call, require_result

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

UNKNOWN, END = "<unk>", "<eos>"
SPECIALS = (UNKNOWN, END)


class Lines(NamedTuple):
    """A text as it was read: the words of its lines, and where it comes from (for errors)."""

    words: list[list[str]]
    source: str


class Texts(NamedTuple):
    """The three parts of a corpus."""

    train: Lines
    val: Lines
    test: Lines


class Corpus(NamedTuple):
    """A corpus as numbers: `words[n]` is word n."""

    words: tuple[str, ...]
    train: Int64[Tensor, " tokens"]
    val: Int64[Tensor, " tokens"]
    test: Int64[Tensor, " tokens"]

    @property
    def end(self) -> int:
        """The number of `<eos>`."""
        return self.words.index(END)

    @property
    def fingerprint(self) -> int:
        """A number of 60 bits that is the same for the same words in the same order."""
        return int(hashlib.sha256("\n".join(self.words).encode()).hexdigest()[:15], 16)


@dataclass(frozen=True)
class Source:
    """What is known about a corpus before it is read: how many words its vocabulary has."""

    name: str
    vocabulary: int
    texts: Callable[[Path], Texts]
    """Reads the text from the folder of all data sets."""

    def read(self, data_dir: Path, vocabulary: int | None = None) -> Corpus:
        """The corpus with its own vocabulary size, or another one; read once per process.

        Raises DataError, for example if the text has fewer different words.
        """
        return _read(self, data_dir, vocabulary or self.vocabulary)

    def read_texts(self, data_dir: Path) -> Texts:
        """The text itself. Raises DataError."""
        with refusals_named(data_dir):
            return require_result(f"corpus {self.name}", self.texts(data_dir), Texts)


def _source(name: str, texts: Callable[[Path], Texts], *, vocabulary: int) -> Source:
    return Source(name, vocabulary, texts)


def _check(name: str, source: Source) -> None:
    require_call(f"corpus {name}", source.texts, "(data_dir) -> Texts", Path())


CORPORA: Registry[Source] = Registry(
    "corpus", "nos_repro.data", build=_source, check=_check, key="task.data"
)
"""Its decorator makes `data: NAME` mean the text that a function reads:

    @CORPORA.register("letters", vocabulary=30)
    def read(data_dir): ...
"""


@functools.lru_cache(maxsize=4)
def _read(source: Source, data_dir: Path, vocabulary: int) -> Corpus:
    return number(source.read_texts(data_dir), vocabulary)


def number(texts: Texts, vocabulary: int) -> Corpus:
    """The words as numbers: `<unk>`, `<eos>` and the most frequent words of the training part.

    Raises DataError if that part has fewer different words than the vocabulary needs.
    """
    from torchtext.vocab import Vocab  # only corpora need it, and every study imports this module

    counts = Counter(chain.from_iterable(texts.train.words))
    different = len(counts.keys() | set(SPECIALS))
    if different < vocabulary:
        raise DataError(
            f"{texts.train.source} has {different:,} different words, including {UNKNOWN} and "
            f"{END}: too few for a vocabulary of {vocabulary:,}\n"
            "  set task.vocabulary to that number or less"
        )
    vocab = Vocab(counts, max_size=vocabulary - len(SPECIALS), specials=list(SPECIALS))
    parts = (_numbers(lines, vocab.stoi, vocab.unk_index) for lines in texts)
    return Corpus(tuple(vocab.itos), *parts)


def _numbers(lines: Lines, numbers: dict[str, int], unknown: int) -> Int64[Tensor, " tokens"]:
    import torch

    every = (numbers.get(word, unknown) for line in lines.words for word in (*line, END))
    return torch.tensor(list(every))
