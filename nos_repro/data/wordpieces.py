"""Word pieces that both languages share (Wu et al. 2016, sec. 4.1), made with sentencepiece.

*Departures*: Google's word-piece model was never published; these are byte-pair merges, which are
just as greedy and keep the text whole. Beforehand only the spaces of the text are normalised, since
a translation is compared with a reference that was not normalised.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from nos_repro.data.cores import available_cores
from nos_repro.errors import ConfigError

PAD, UNKNOWN, BEGIN, END = range(4)
"""Ids of the pieces that are not text, in every vocabulary."""

COVERAGE = 0.99999
"""Share of the text's characters that get pieces: one in 100,000 may be unknown."""

MOST_LINES = 200_000
"""Lines of each language to learn from; of a larger text, every second, fourth, ... line. To learn
from all 4.5 million pairs of WMT14, as its usual scripts do, takes minutes more and gigabytes."""


def learn_pieces(lines: Iterable[str], size: int, where: str) -> UInt8[Tensor, " bytes"]:
    """A sentencepiece model of exactly `size` pieces, as sentencepiece writes it.

    Raises ConfigError if the text, which comes from `where`, allows no vocabulary of that size.
    """
    import sentencepiece  # only text needs it, and every study imports this module

    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            vocab_size=size,
            model_type="bpe",
            character_coverage=COVERAGE,
            normalization_rule_name="identity",
            max_sentence_length=2**20,
            num_threads=1,
            minloglevel=2,
            pad_id=PAD,
            unk_id=UNKNOWN,
            bos_id=BEGIN,
            eos_id=END,
        )
    except RuntimeError as error:
        raise ConfigError(_refusal(str(error), size, where)) from None
    return torch.from_numpy(np.frombuffer(written.getvalue(), dtype=np.uint8).copy())


def _refusal(message: str, size: int, where: str) -> str:
    """What sentencepiece said about the vocabulary's size, as a sentence about the setting."""
    if most := re.search(r"set it to a value <= (\d+)", message):
        limit = f"at most {int(most[1]):,}, all that the text allows"
    elif least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        limit = f"at least {int(least[1]):,}, the characters of the text"
    elif "sentences_.empty()" in message:
        return f"{where} has no text: every line of it is empty"
    else:
        return f"task.vocabulary: no {size:,} word pieces from {where} ({message.strip()})"
    return f"task.vocabulary must be {limit} ({where}), got {size:,}"


class LineSample:
    """The lines that it is given, or evenly spaced ones if there are more than MOST_LINES."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._seen = 0
        self._stride = 1

    def take(self, lines: Sequence[str]) -> None:
        self.lines += lines[-self._seen % self._stride :: self._stride]
        self._seen += len(lines)
        while len(self.lines) > MOST_LINES:
            self.lines = self.lines[::2]
            self._stride *= 2


class WordPieces:
    """A vocabulary: from lines to the ids of their pieces and back."""

    def __init__(self, model: UInt8[Tensor, " bytes"]) -> None:
        import sentencepiece

        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model.numpy().tobytes())

    @property
    def size(self) -> int:
        return int(self._processor.get_piece_size())

    @cached_property
    def fingerprint(self) -> Int64[Tensor, ""]:
        """63 bits that tell vocabularies apart; never 0."""
        digest = hashlib.sha256(self.model.numpy().tobytes()).digest()
        return torch.tensor(int.from_bytes(digest[:8], "big") >> 1 | 1)

    def encode(self, lines: Sequence[str], threads: int | None = None) -> list[list[int]]:
        """The ids of each line, without BEGIN and END; by default on all cores that this process
        may use."""
        ids: list[list[int]] = self._processor.encode(
            list(lines), num_threads=threads or available_cores()
        )
        return ids

    def decode(self, ids: Int64[Tensor, "lines longest"]) -> list[str]:
        """The text of each row up to its first END."""
        rows = [row[: row.index(END)] if END in row else row for row in ids.tolist()]
        texts: list[str] = self._processor.decode(rows)
        return texts
