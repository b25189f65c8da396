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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nos_repro.data.files import refusals_named
from nos_repro.data.text import read_text, text_blocks
from nos_repro.errors import DataError, unknown
from nos_repro.registry import Registry, is_path, require_call, require_result

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

SPACE = "\u2581"
"""What sentencepiece writes for a space."""

BLOCK = 50_000
"""Pairs that are read at a time where only their number matters."""

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

    def cut(self, start: int, stop: int) -> Pairs:
        return Pairs(*(Text(t.where, t.lines[start:stop], t.numbers[start:stop]) for t in self))


def read_pairs(source: Path, target: Path) -> Pairs:
    """Both sides of a text. Raises DataError for a damaged file and for sides of unequal length."""
    pairs = Pairs(read_side(source), read_side(target))
    _require_counterparts(source, target, [len(side.lines) for side in pairs])
    return pairs


def pair_blocks(source: Path, target: Path, size: int) -> Iterator[Pairs]:
    """Both sides of a text of any length, `size` pairs at a time. Raises DataError as `read_pairs`
    does, once it gets there."""
    sides = [_side_blocks(path, size) for path in (source, target)]
    done = 0
    for texts in zip_longest(*sides):
        counts = [len(text.lines) if text is not None else 0 for text in texts]
        if counts[0] != counts[1]:
            rests = [sum(len(text.lines) for text in side) for side in sides]
            counts = [done + n + rest for n, rest in zip(counts, rests, strict=True)]
            _require_counterparts(source, target, counts)
        yield Pairs(*texts)
        done += counts[0]
    _require_counterparts(source, target, [done, done])


def _side_blocks(path: Path, size: int) -> Iterator[Text]:
    """The lines of a file. Warns of U+2581 once it has read all."""
    marked: list[int] = []
    first = 1
    for text in text_blocks(path, size):
        lines = _lines(text)
        if SPACE in text:
            marked += [number for number, line in enumerate(lines, first) if SPACE in line]
        yield Text(str(path), lines, range(first, first + len(lines)))
        first += len(lines)
    if marked:
        _warn_once(str(path), marked[0], len(marked))


def _require_counterparts(source: Path, target: Path, counts: Sequence[int]) -> None:
    """Raises DataError for sides of unequal length, and for empty ones."""
    if counts[0] != counts[1]:
        longer = source if counts[0] > counts[1] else target
        raise DataError(
            f"{source} has {counts[0]:,} lines, {target} {counts[1]:,}: "
            f"{longer}, line {min(counts) + 1:,}, has no counterpart\n"
            "  line i of one must be the translation of line i of the other"
        )
    if not counts[0]:
        raise DataError(f"{source} and {target} are empty")


def read_side(path: Path) -> Text:
    """The lines of a file. Raises DataError (`read_text`)."""
    return Text.whole(str(path), split_lines(read_text(path), str(path)))


def split_lines(text: str, where: str) -> list[str]:
    """The lines of a text, split as the module's docstring says. Warns of U+2581."""
    lines = _lines(text)
    if SPACE in text:
        marked = [number for number, line in enumerate(lines, 1) if SPACE in line]
        _warn(where, marked[0], len(marked))
    return lines


def _lines(text: str) -> list[str]:
    lines = text.removesuffix("\n").split("\n") if text else []
    return [line.removesuffix("\r") for line in lines]


def _warn(where: str, first: int, count: int) -> None:
    log.warning(
        "%s, line %d: U+2581 is read as a space (%d such lines in all)", where, first, count
    )


_warn_once = functools.cache(_warn)


@dataclass(frozen=True)
class ParallelCorpus:
    """A parallel text that was found.

    `read(part, most)` gives at most that many pairs of a part (None: all); `digest` hashes the
    content of the training part. `stream(size)` gives the training part that many pairs at a time;
    a text that may be larger than memory has one.
    """

    where: str
    read: Callable[[str, int | None], Pairs]
    digest: Callable[[], str]
    stream: Callable[[int], Iterator[Pairs]] | None = None

    def training(self, most: int | None, size: int) -> Callable[[], Iterator[Pairs]]:
        """At most that many training pairs (None: all), `size` at a time, from the first one on at
        each call. Raises DataError, and so does what it returns."""
        if self.stream is not None:
            return functools.partial(_first, self.stream, most, size)
        pairs = self.read("train", most)
        starts = range(0, len(pairs.source.lines), size)
        return lambda: (pairs.cut(start, start + size) for start in starts)


def _first(
    stream: Callable[[int], Iterator[Pairs]], most: int | None, size: int
) -> Iterator[Pairs]:
    """The stream up to that many pairs."""
    left = most
    for pairs in stream(size):
        if left is None:
            yield pairs
            continue
        yield pairs.cut(0, left)
        left -= len(pairs.source.lines)
        if left <= 0:
            return


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

    def stream(size: int) -> Iterator[Pairs]:
        return pair_blocks(*files["train"], size)

    return ParallelCorpus(str(folder), read, lambda: _digest(files["train"]), stream)


def _two_files(source: Path, target: Path) -> ParallelCorpus:
    @functools.cache
    def split() -> dict[str, np.ndarray]:
        """The pairs of each part, counted from 0: the training part in the order of the files."""
        count = sum(len(pairs.source.lines) for pairs in pair_blocks(source, target, BLOCK))
        held_out = min(count // HELD_OUT_OF, MOST_HELD_OUT)
        if not held_out:
            raise DataError(
                f"{source} has {count} lines: give at least {HELD_OUT_OF}, since one is held out"
                " for validation and one for the test"
            )
        import numpy as np

        order = np.random.default_rng(SPLIT_SEED).permutation(count)
        return {
            "val": order[:held_out],
            "test": order[held_out : 2 * held_out],
            "train": np.sort(order[2 * held_out :]),
        }

    def read(part: str, most: int | None) -> Pairs:
        chosen = split()[part][:most]
        ordered = chosen.copy()
        ordered.sort()
        found = _joined(_picked(pair_blocks(source, target, BLOCK), ordered))
        return found.keep(ordered.searchsorted(chosen).tolist())

    def stream(size: int) -> Iterator[Pairs]:
        return _picked(pair_blocks(source, target, size), split()["train"])

    digest = functools.partial(_digest, (source, target))
    return ParallelCorpus(f"{source} and {target}", read, digest, stream)


def _picked(blocks: Iterator[Pairs], chosen: np.ndarray) -> Iterator[Pairs]:
    """Of all pairs those whose places, counted from 0, are chosen, in rising order."""
    done = passed = 0
    for pairs in blocks:
        count = len(pairs.source.lines)
        here = int(chosen[done:].searchsorted(passed + count))
        yield pairs.keep((chosen[done : done + here] - passed).tolist())
        done, passed = done + here, passed + count


def _joined(blocks: Iterable[Pairs]) -> Pairs:
    """The pairs of all blocks."""
    sides = []
    for texts in zip(*blocks, strict=True):
        lines = [line for text in texts for line in text.lines]
        sides.append(Text(texts[0].where, lines, [n for text in texts for n in text.numbers]))
    return Pairs(*sides)


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
