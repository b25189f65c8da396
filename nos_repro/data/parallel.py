"""Parallel text: two sides whose lines translate each other, and where it is looked for.

`data: NAME` is one of

- `numbers`: number names, embedded; or your own, `my_package.my_text`;
- a folder NAME in the data folder with the parts of `multi30k` or `wmt14`, or simply `train.en`,
  `train.de`, `val.en` and so on (the suffixes are the languages), each file plain or `.gz`;
- two files `NAME.en` and `NAME.de`: one pair in twenty is held out for validation and as many for
  the test, at most 1,000 each.

An absolute path works as well as a name.

Lines end only at line feeds (a carriage return before one is dropped): Python's own `splitlines`
also cuts at characters that occur inside sentences, and the two sides would get out of step.

U+2581 is read as a space: with it sentencepiece marks the spaces in its pieces.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nos_repro.data.files import refusals_named
from nos_repro.data.text import read_text
from nos_repro.errors import DataError, unknown
from nos_repro.registry import Registry, is_path, require_call, require_result

log = logging.getLogger(__name__)

SPACE = "\u2581"
"""What sentencepiece writes for a space."""

HELD_OUT_OF, MOST_HELD_OUT = 20, 1000
SPLIT_SEED = 2017

PARTS = ("train", "val", "test")
# fmt: off
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    # set: the usual names of its parts, in the order in which they are tried
    "multi30k": {"test": ("test_2016_flickr", "test_2016", "test2016", "test")},
    "wmt14":    {"test": ("newstest2014", "test"), "val": ("newstest2013", "val", "valid", "dev")},
}
OTHERS = {"train": ("train",), "val": ("val", "valid", "dev"), "test": ("test",)}
# fmt: on


@dataclass(frozen=True)
class Text:
    """The lines of one side, and where they come from; `numbers` are their numbers in the file."""

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
        """The chosen lines, with their numbers in the file."""
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
            f"{source} has {counts[0]:,} lines, {target} {counts[1]:,}: "
            f"{longer}, line {min(counts) + 1:,}, has no counterpart\n"
            "  line i of one must be the translation of line i of the other"
        )
    if not counts[0]:
        raise DataError(f"{source} and {target} are empty")
    return pairs


def read_side(path: Path) -> Text:
    """The lines of a file. Raises DataError (`read_text`)."""
    return Text.whole(str(path), split_lines(read_text(path), str(path)))


def split_lines(text: str, where: str) -> list[str]:
    """The lines of a text, split as the module's docstring says. Warns of U+2581."""
    lines = text.removesuffix("\n").split("\n") if text else []
    if SPACE in text:
        marked = [number for number, line in enumerate(lines, 1) if SPACE in line]
        log.warning(
            "%s, line %d: U+2581 is read as a space (%d such lines in all)",
            *(where, marked[0], len(marked)),
        )
    return [line.removesuffix("\r") for line in lines]


@dataclass(frozen=True)
class ParallelCorpus:
    """A parallel text that was found.

    `read(part, most)` gives at most that many pairs of a part (None: all); `digest` hashes the
    content of the training part.
    """

    where: str
    read: Callable[[str, int | None], Pairs]
    digest: Callable[[], str]


def _check(name: str, find: Callable[..., ParallelCorpus]) -> None:
    expected = "(languages, data_dir) -> ParallelCorpus"
    require_call(f"parallel text {name}", find, expected, ("en", "de"), Path())


PARALLEL_TEXTS: Registry[Callable[[tuple[str, str], Path], ParallelCorpus]] = Registry(
    "parallel text", "nos_repro.data", check=_check, key="task.data"
)
"""Texts that are not files in the data folder, each made by a function:

    @PARALLEL_TEXTS.register("plurals")
    def plurals(languages, data_dir):
        return in_memory("plurals", train=(["one cat"], ["two cats"]), val=..., test=...)
"""


def in_memory(where: str, **parts: tuple[list[str], list[str]]) -> ParallelCorpus:
    """The text whose ``train``, ``val`` and ``test`` are these lines and their translations."""
    digest = hashlib.sha256(repr(parts["train"]).encode())

    def read(part: str, most: int | None) -> Pairs:
        return Pairs(*(Text.whole(f"{where} ({part})", list(side[:most])) for side in parts[part]))

    return ParallelCorpus(where, read, digest.hexdigest)


def find_parallel_text(name: str, languages: tuple[str, str], data_dir: Path) -> ParallelCorpus:
    """The parallel text called `name`. Raises DataError, which says what to put where."""
    with refusals_named(name):
        return _find(name, languages, data_dir)


def _find(name: str, languages: tuple[str, str], data_dir: Path) -> ParallelCorpus:
    if name in PARALLEL_TEXTS.names():
        return _registered(name, languages, data_dir)
    folder = data_dir / name
    if folder.is_dir():
        return _folder(folder, languages)
    both = [_file(folder.parent, (folder.name,), language) for language in languages]
    if all(both):
        return _two_files(both[0], both[1])  # type: ignore[arg-type]
    if is_path(name):
        return _registered(name, languages, data_dir)
    first, second = (f"{folder}.{language}" for language in languages)
    raise DataError(
        f"{unknown('parallel text', name, (*PARALLEL_TEXTS.names(), *NAMES))}\n"
        f"  neither a folder {folder}/ with train.{languages[0]}, train.{languages[1]} and so on,\n"
        f"  nor two files {first} and {second} (or .gz);\n"
        "  put one of them there, or name another folder with --data DIR or NOS_REPRO_DATA"
    )


def _registered(name: str, languages: tuple[str, str], data_dir: Path) -> ParallelCorpus:
    found = PARALLEL_TEXTS.find(name)(languages, data_dir)
    return require_result(f"parallel text {name}", found, ParallelCorpus)


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
                f"{source} has {count} lines: give at least {HELD_OUT_OF}, since one is held out"
                " for validation and one for the test"
            )
        import numpy as np

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
        with refusals_named(path), path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
