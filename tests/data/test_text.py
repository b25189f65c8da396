"""Text files, good and bad: an error is reported once, with the file and the line."""

import gzip
from pathlib import Path

import pytest

from nos_repro.data.text import find_text, read_lines
from nos_repro.errors import DataError


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_is_its_words_plain_and_gzipped(tmp_path: Path, name: str, end: bytes) -> None:
    path = write(tmp_path / name, b" no it was n't \r\n black  <unk>" + end)
    assert read_lines(path) == [["no", "it", "was", "n't"], ["black", "<unk>"]]
    assert find_text(tmp_path, "a.txt") == path


def test_a_byte_order_mark_is_not_part_of_the_first_word(tmp_path: Path) -> None:
    path = write(tmp_path / "mark.txt", b"\xef\xbb\xbfno\ncaf\xe9")
    with pytest.raises(DataError, match=r"line 2: not UTF-8 \(byte 0xe9\)"):
        read_lines(path)
    assert read_lines(write(path, b"\xef\xbb\xbfno it\n")) == [["no", "it"]]


def test_a_line_of_ten_thousand_words_is_read_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "long.txt", b"one " * 10_000 + b"\ntwo\n")
    assert [len(line) for line in read_lines(path)] == [10_000, 1]


SENTENCE = "one café\ntwo\n"
# fmt: off
BAD = [
    ("latin.txt", b"good\ncaf\xe9 au lait\n", r"latin\.txt, line 2: not UTF-8 \(byte 0xe9\)"),
    ("empty.txt", b"",                        r"empty\.txt is empty"),
    ("blank.txt", b" \n\n",                   r"blank\.txt is empty"),
    ("hole.txt",  b"one\n\nthree\n",          r"hole\.txt, line 2: no word"),
    ("end.txt",   b"one\n\n",                 r"end\.txt, line 2: no word"),
    ("bom.txt",   SENTENCE.encode("utf-16"),    r"bom\.txt: UTF-16.*\n.*iconv -f utf-16 -t utf-8"),
    ("le.txt",    SENTENCE.encode("utf-16-le"), r"line 1: not UTF-8 .*\n.*iconv -f utf-16le"),
    ("be.txt",    SENTENCE.encode("utf-16-be"), r"line 1: not UTF-8 .*\n.*iconv -f utf-16be"),
    ("ascii.txt", "one two".encode("utf-16-le"), r"line 1: a NUL .*\n.*iconv -f utf-16le"),
    ("nul.txt",   b"one\ntw\0o\n",             r"nul\.txt, line 2: a NUL .*\n.*tr -d '\\000'"),
    ("hole.gz",   b"one\n \nthree\n",         r"hole\.gz, line 2: no word"),
]
# fmt: on


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_bad_file_is_one_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_lines(write(tmp_path / name, content))


def test_a_missing_a_truncated_and_a_foreign_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*none\.txt"):
        read_lines(tmp_path / "none.txt")
    whole = gzip.compress(b"some words\n" * 100)
    for content in (whole[:-12], b"no archive"):
        (tmp_path / "a.txt.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.txt\.gz cannot be read"):
            read_lines(tmp_path / "a.txt.gz")
