"""Lines of text out of plain or gzipped files, and two sides that translate each other.

Lines end at line feeds alone (a carriage return before one is dropped): Python's own `splitlines`
also cuts at characters that may stand inside a sentence, and the two sides would drift apart.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
    pairs = Pairs(read_text(source), read_text(target))
    counts = [len(side.lines) for side in pairs]
    if counts[0] != counts[1]:
        raise DataError(
            f"{source} has {counts[0]:,} lines, {target} {counts[1]:,}\n"
            "  line i of one must be the translation of line i of the other"
        )
    if not counts[0]:
        raise DataError(f"{source} and {target} are empty")
    return pairs


def read_text(path: Path) -> Text:
    """The lines of a file, gzipped where its name ends in `.gz`.

    Raises DataError naming the file, and the line that is not UTF-8.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})\n  fetch or unpack it again") from None
    try:
        lines = data.decode().removesuffix("\n").split("\n") if data else []
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {number:,}: not UTF-8 (byte 0x{data[error.start]:02x})\n"
            "  convert the file, e.g. iconv -f latin1 -t utf-8"
        ) from None
    return Text.whole(str(path), [line.removesuffix("\r") for line in lines])
