"""Mikolov's Penn Treebank: 10,000 different words, 42,068 training sentences (002 sec. 6.5).

Its files are looked for in the data folder: in `ptb/`, in torchtext's `penn-treebank/`, in the
folder that `simple-examples.tgz` unpacks to, or in none of these; plain or gzipped. The text
belongs to the LDC, so it is not downloaded.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from nos_repro.data.corpora import CORPORA, SPECIALS, Lines, Texts
from nos_repro.data.text import find_text, read_lines
from nos_repro.errors import DataError

FOLDERS = ("ptb", "penn-treebank", "ptb/simple-examples/data", "simple-examples/data", "")
WORDS = 10_000
# fmt: off
PARTS = {
    # file: its tokens, including one <eos> per line
    "ptb.train.txt": 929_589,
    "ptb.valid.txt":  73_760,
    "ptb.test.txt":   82_430,
}
# fmt: on


@CORPORA.register("ptb", vocabulary=WORDS)
def read_ptb(data_dir: Path) -> Texts:
    """The three parts. Raises DataError if one is missing, incomplete or another text."""
    train, val, test = (_part(path, PARTS[name]) for name, path in _find(data_dir).items())
    different = len(set(chain.from_iterable(train.words)) | set(SPECIALS))
    if different != WORDS:
        raise DataError(
            f"{train.source} has {different:,} different words, the Penn Treebank {WORDS:,}\n"
            "  it is another text: take the files of Mikolov's simple-examples.tgz"
        )
    return Texts(train, val, test)


def _find(data_dir: Path) -> dict[str, Path]:
    """The files of the first folder that has any of them."""
    for folder in FOLDERS:
        found = {name: find_text(data_dir / folder, name) for name in PARTS}
        missing = [name for name, path in found.items() if path is None]
        if not missing:
            return {name: path for name, path in found.items() if path is not None}
        if len(missing) < len(PARTS):
            raise DataError(f"{data_dir / folder} lacks {' '.join(missing)}\n  put it beside them")
    raise DataError(
        f"no Penn Treebank in {data_dir}\n"
        f"  put {' '.join(PARTS)} (or .gz) there, or below it in one of: "
        f"{' '.join(f'{folder}/' for folder in FOLDERS if folder)};\n"
        "  they are in Mikolov's simple-examples.tgz, and are not downloaded, since the text\n"
        "  belongs to the LDC; or name another folder with --data DIR or NOS_REPRO_DATA"
    )


def _part(path: Path, tokens: int) -> Lines:
    words = read_lines(path)
    found = len(words) + sum(map(len, words))
    if found != tokens:
        raise DataError(
            f"{path} has {found:,} words with one <eos> per line, the Penn Treebank {tokens:,}\n"
            "  it is truncated or another text: take the file of Mikolov's simple-examples.tgz"
        )
    return Lines(words, str(path))
