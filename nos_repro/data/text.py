"""A text file, plain or gzipped, and the words of each line; a byte-order mark is ignored."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from nos_repro.errors import DataError


def find_text(folder: Path, name: str) -> Path | None:
    """`name` in the folder, else `name.gz`; None if there is neither."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def read_lines(path: Path) -> list[list[str]]:
    """The words of each line, split at whitespace; a line may be of any length.

    Raises DataError, with the line if there is one, for a file that is missing, empty, truncated or
    not UTF-8, and for a line without words.
    """
    text = read_text(path)
    lines = text.removesuffix("\n").split("\n")
    words = [line.split() for line in lines]
    if not any(words):
        raise DataError(f"{path} is empty\n  put the whole file there")
    for number, found in enumerate(words, start=1):
        if not found:
            raise DataError(f"{path}, line {number:,}: no word\n  every line must hold a sentence")
    return words


def read_text(path: Path) -> str:
    """The text of a file, gunzipped if its name ends in `.gz`.

    Raises DataError, with the line if there is one, for a file that is missing, truncated or not
    UTF-8, or that holds a NUL.
    """
    return decode_text(_content(path), str(path))


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})\n  copy it again") from error


def text_blocks(path: Path, size: int) -> Iterator[str]:
    """The text of a file, `size` lines at a time, so that a file of any length takes little memory.

    Raises DataError as `read_text` does, once it gets there.
    """
    first = 1
    try:
        with _opened(path) as file:
            while content := b"".join(islice(file, size)):
                yield decode_text(content, str(path), first)
                first += size
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})\n  copy it again") from error


def _opened(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def decode_text(content: bytes, where: str, first: int = 1) -> str:
    """UTF-8, with or without a byte-order mark; `first` is the number of its first line. Raises
    DataError, which names the line."""
    if first == 1 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{where}: UTF-16, not UTF-8\n  convert it: iconv -f utf-16 -t utf-8")
    try:
        text = (content.removeprefix(codecs.BOM_UTF8) if first == 1 else content).decode()
    except UnicodeDecodeError as error:
        wrong, at = f"not UTF-8 (byte 0x{error.object[error.start]:02x})", error.start
    else:
        if (at := content.find(0)) < 0:
            return text
        wrong = "a NUL (byte 0x00)"
    line = content.count(b"\n", 0, at) + first
    raise DataError(f"{where}, line {line:,}: {wrong}\n  {_advice(content)}")


def _advice(content: bytes) -> str:
    """What to do with a text that is not UTF-8. NULs at every other place are UTF-16 of ASCII."""
    nul = [content[start::2].count(0) / (len(content) // 2 or 1) for start in (0, 1)]
    if max(nul) > 0.4:
        return f"convert it: iconv -f utf-16{'be' if nul[0] > nul[1] else 'le'} -t utf-8"
    if max(nul):
        return "copy it again, or remove the character: tr -d '\\000'"
    return "convert it, e.g. iconv -f latin1 -t utf-8"
