"""Parallel text: two sides whose lines translate each other.

Lines end at line feeds alone (a carriage return before one is dropped): Python's own `splitlines`
also cuts at characters that may stand inside a sentence, and the two sides would drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nos_repro.data.text import read_text
from nos_repro.errors import DataError


@dataclass(frozen=True)
class Text:
    """The lines of one side, and where they come from; `numbers` are their places in the file."""

    where: str
    lines: list[str]
    numbers: Sequence[int]

    @classmethod
    def whole(cls, where: str, lines: list[str]) -> Text:
        return cls(where, lines, range(1, len(lines) + 1))

    def place(self, index: int) -> str:
        """`FILE, line N` of the line at `index`."""
        return f"{self.where}, line {self.numbers[index]:,}"

    def keep(self, chosen: Sequence[int]) -> Text:
        """The chosen lines, which still know their places."""
        return Text(self.where, [self.lines[i] for i in chosen], [self.numbers[i] for i in chosen])


class Pairs(NamedTuple):
    """Two sides of a text: line i of one is the translation of line i of the other."""

    source: Text
    target: Text

    def keep(self, chosen: Sequence[int]) -> Pairs:
        return Pairs(self.source.keep(chosen), self.target.keep(chosen))


def read_pairs(source: Path, target: Path) -> Pairs:
    """Both sides of a text. Raises DataError for a damaged file and for sides of unequal length."""
    pairs = Pairs(read_side(source), read_side(target))
    counts = [len(side.lines) for side in pairs]
    if counts[0] != counts[1]:
        longer = source if counts[0] > counts[1] else target
        raise DataError(
            f"{source} has {counts[0]:,} lines, {target} {counts[1]:,}: nothing stands beside "
            f"{longer}, line {min(counts) + 1:,}, at the latest\n"
            "  line i of one must be the translation of line i of the other"
        )
    if not counts[0]:
        raise DataError(f"{source} and {target} are empty")
    return pairs


def read_side(path: Path) -> Text:
    """The lines of a file. Raises DataError (`read_text`)."""
    return Text.whole(str(path), split_lines(read_text(path)))


def split_lines(text: str) -> list[str]:
    """The lines of a text, as this module's first lines say."""
    lines = text.removesuffix("\n").split("\n") if text else []
    return [line.removesuffix("\r") for line in lines]
