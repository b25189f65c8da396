"""Parallel text: where it is found, what is refused with which message, and what is kept."""

import dataclasses
import errno
import gzip
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nos_repro.data import decoded, translation, wordpieces
from nos_repro.data.buckets import Buckets, padded
from nos_repro.data.numbers import SIZES, number_names
from nos_repro.data.parallel import Pairs, find_parallel_text
from nos_repro.data.translation import Encoded, Limits, Sentences, encoded_training
from nos_repro.data.wordpieces import BEGIN, END, PAD, learn_pieces
from nos_repro.errors import ConfigError, DataError
from tests.conftest import ROOT

BOTH = ("en", "de")
LIMITS = Limits(longest=60, leave_out=False)
# fmt: off
WORDS = {
    "en": "a man rides the small red bicycle near two old houses while it rains",
    "de": "ein Mann fährt das kleine rote Fahrrad bei zwei alten Häusern während es regnet",
}
# fmt: on


def lines(language: str, count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [
        " ".join(draw.choices(WORDS[language].split(), k=draw.randint(3, 9))) for _ in range(count)
    ]


def write(path: Path, text: list[str] | bytes) -> None:
    data = text if isinstance(text, bytes) else "".join(f"{line}\n" for line in text).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_folder(root: Path, **changed: list[str] | bytes) -> Path:
    """`text/{train,val,test}.{en,de}`; a keyword such as train_de replaces a file's lines."""
    folder = root / "text"
    folder.mkdir(parents=True)
    for part, language in itertools.product(("train", "val", "test"), BOTH):
        content = lines(language, 60 if part == "train" else 5)
        write(folder / f"{part}.{language}", changed.get(f"{part}_{language}", content))
    return folder


def training(root: Path, vocabulary: int = 80, most: int | None = None, limits: Limits = LIMITS):
    corpus = find_parallel_text("text", BOTH, root)
    return encoded_training(corpus, root, vocabulary=vocabulary, most=most, limits=limits)


def test_a_folder_of_plain_or_gzipped_parts_is_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    write(folder / "train.en.gz", lines("en", 60))
    (folder / "train.en").unlink()
    pairs = find_parallel_text("text", BOTH, tmp_path).read("train", 7)
    assert pairs.source.lines == lines("en", 60)[:7]
    assert pairs.target.lines == lines("de", 60)[:7]


def test_multi30k_is_read_under_its_own_names(tmp_path: Path) -> None:
    folder = make_folder(tmp_path).rename(tmp_path / "multi30k")
    for language in BOTH:
        (folder / f"test.{language}").rename(folder / f"test_2016_flickr.{language}")
    assert len(find_parallel_text("multi30k", BOTH, tmp_path).read("test", None).source.lines) == 5


def test_the_mark_that_sentencepiece_uses_for_a_space_is_told_of(tmp_path: Path, caplog) -> None:
    """It becomes a space in the pieces, so a translation could never bring it back."""
    make_folder(tmp_path, val_en=["one", "two▁three", "▁", "four", "five"])
    corpus = find_parallel_text("text", BOTH, tmp_path)
    assert corpus.read("val", None).source.lines[1] == "two▁three"
    (message,) = caplog.messages
    assert message.endswith("val.en, line 2: U+2581 is read as a space (2 such lines in all)")


def test_a_text_that_changes_while_it_is_read_is_not_kept(tmp_path: Path) -> None:
    make_folder(tmp_path)
    corpus = find_parallel_text("text", BOTH, tmp_path)

    def stream(size: int) -> Iterator[Pairs]:
        assert corpus.stream is not None
        yield from corpus.stream(size)
        write(tmp_path / "text" / "train.en", lines("en", 60, seed=1))

    changing = dataclasses.replace(corpus, stream=stream)
    with pytest.raises(DataError, match="text changed while it was read"):
        encoded_training(changing, tmp_path, vocabulary=80, most=None, limits=LIMITS)
    assert not (tmp_path / ".decoded").exists()


def test_with_two_files_a_fixed_part_is_held_out(tmp_path: Path) -> None:
    for language in BOTH:
        write(tmp_path / f"mine.{language}", [f"{language} {i}" for i in range(100)])
    corpus = find_parallel_text("mine", BOTH, tmp_path)
    parts = [corpus.read(part, None) for part in ("train", "val", "test")]
    assert [len(pairs.source.lines) for pairs in parts] == [90, 5, 5]
    seen = [line for pairs in parts for line in pairs.source.lines]
    assert sorted(seen) == sorted(f"en {i}" for i in range(100))
    for source, target in parts:
        assert [s.split()[1] for s in source.lines] == [t.split()[1] for t in target.lines]
        number = int(source.lines[0].split()[1]) + 1
        assert source.place(0) == f"{tmp_path / 'mine.en'}, line {number}"


def test_number_names_of_the_parts_are_disjoint_and_reorder() -> None:
    seen = [number_names(part, BOTH).source.lines for part in ("val", "test")]
    seen.append(number_names("train", BOTH, 1000).source.lines)
    assert [len(set(part)) for part in seen] == [SIZES["val"], SIZES["test"], 1000]
    assert len(set().union(*seen)) == sum(map(len, seen))
    pairs = number_names("train", BOTH, 1000)
    assert any("zweiundvierzig" in line for line in pairs.target.lines)
    with pytest.raises(ConfigError, match=r"task\.languages: num2words does not know 'xx'"):
        number_names("val", ("en", "xx"))


# fmt: off
BAD = {
    # file: (its content, what the error says)
    "train_de": [
        (lines("de", 59),                   "train.en has 60 lines, .*train.de 59"),
        ([*lines("de", 59), ""],            "train.de, line 60: an empty line\n"),
        ([*lines("de", 58), " ", ""],       r"train.de, line 59: an empty line \(2 such lines in"),
        ([*lines("de", 59), "ein " * 9999], r"train.de, line 60: 10,000 word pieces, .* is 60"),
        (b"ein\nzw\xff\nei\n",              r"train.de, line 2: not UTF-8 \(byte 0xff\)"),
        (b"",                               "train.en has 60 lines, .*train.de 0"),
    ],
    "test_en": [
        ([*lines("en", 4), ""],             "test.en, line 5: an empty line"),
    ],
}
# fmt: on


def read_all(root: Path) -> None:
    pieces, _ = training(root)
    pairs = find_parallel_text("text", BOTH, root).read("test", None)
    translation.encode(pairs, pieces, LIMITS, part="test")


@pytest.mark.parametrize(
    ("name", "content", "message"), [(k, c, m) for k, cases in BAD.items() for c, m in cases]
)
def test_an_unusable_line_is_named_by_file_and_line(
    name: str, content: list[str] | bytes, message: str, tmp_path: Path
) -> None:
    make_folder(tmp_path, **{name: content})
    with pytest.raises(DataError, match=message):
        read_all(tmp_path)
    if name == "train_de":
        assert not (tmp_path / ".decoded").exists(), "nothing half-made is left"


def test_unusable_training_pairs_are_left_out_on_request(tmp_path: Path) -> None:
    make_folder(tmp_path, train_de=[*lines("de", 57), "", "ein " * 9999, "ein Mann"])
    _, pairs = training(tmp_path, limits=Limits(60, leave_out=True))
    assert len(pairs.source.lengths) == len(pairs.target.lengths) == 58


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    whole = gzip.compress(b"a line\n" * 1000)
    (folder / "train.en").unlink()
    (folder / "train.en.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"train\.en\.gz cannot be read"):
        training(tmp_path)


def test_a_missing_part_and_a_missing_text_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"did you mean 'multi30k'(.|\n)*train\.en(.|\n)*--data"):
        find_parallel_text("multi3k", BOTH, tmp_path)
    (make_folder(tmp_path) / "val.de").unlink()
    with pytest.raises(DataError, match=r"has no val\.de or valid\.de or dev\.de"):
        find_parallel_text("text", BOTH, tmp_path)


def test_a_vocabulary_that_the_text_does_not_allow_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    with pytest.raises(ConfigError, match=r"task\.vocabulary must be at most \d+, .*got 9,000"):
        training(tmp_path, vocabulary=9000)
    with pytest.raises(ConfigError, match=r"task\.vocabulary must be at least \d+, .*got 9"):
        training(tmp_path, vocabulary=9)


def test_the_pieces_are_learned_once_and_from_the_training_side_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, val_en=["ΩΩΩ"] * 5, test_de=["ЖЖЖ"] * 5)
    pieces, pairs = training(tmp_path)
    assert pieces.size == 80
    text = find_parallel_text("text", BOTH, tmp_path).read("train", None)
    for side, known in zip(pairs, text, strict=True):
        assert pieces.decode(padded(side, torch.arange(60))) == known.lines
    assert "Ω" not in pieces.decode(torch.tensor([pieces.encode(["ΩΩΩ"])[0]]))[0]
    monkeypatch.setattr(translation, "learn_pieces", None)
    again, same = training(tmp_path)
    assert torch.equal(again.fingerprint, pieces.fingerprint)
    assert torch.equal(same.source.ids, pairs.source.ids)


def stored(root: Path) -> dict[str, bytes]:
    """The files of the one text that is kept."""
    (folder,) = (root / ".decoded").iterdir()
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch):
    """Has texts encoded a few pairs at a time, by two processes."""

    def set_(size: int) -> None:
        monkeypatch.setattr(translation, "BLOCK", size)
        monkeypatch.setattr(translation, "available_cores", lambda: 2)

    return set_


BAD_PAIRS = {"train_de": [*lines("de", 30), "", *lines("de", 26, 2), "ein " * 9999, "", "ein Mann"]}


@pytest.mark.parametrize("size", [1, 7, 20])
def test_a_text_encoded_in_blocks_by_two_processes_is_to_the_bit_that_of_one(
    tmp_path: Path, in_blocks, size: int
) -> None:
    limits = Limits(60, leave_out=True)
    for place in ("whole", "blocks"):
        make_folder(tmp_path / place, **BAD_PAIRS)
    training(tmp_path / "whole", limits=limits)
    in_blocks(size)
    _, pairs = training(tmp_path / "blocks", limits=limits)
    assert stored(tmp_path / "whole") == stored(tmp_path / "blocks")
    assert len(pairs.source.lengths) == 57


def test_an_unusable_line_is_named_in_whatever_block_it_is(tmp_path: Path, in_blocks) -> None:
    make_folder(tmp_path, **BAD_PAIRS)
    in_blocks(5)
    with pytest.raises(DataError, match=r"train.de, line 31: an empty line \(3 such lines in all"):
        training(tmp_path)
    assert not (tmp_path / ".decoded").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from nos_repro.data import translation
from tests.data.test_translation import training

translation.BLOCK, left = 5, int(sys.argv[2])
write = translation.write_arrays

def write_some(path, arrays):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(path, arrays)

translation.write_arrays = write_some
translation.available_cores = lambda: 1
training(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("done", [0, 1, 8])
def test_who_is_killed_while_it_prepares_a_text_leaves_its_work_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    for place in ("killed", "whole"):
        make_folder(tmp_path / place)
    words = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(done)]
    ended = subprocess.run(words, cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    monkeypatch.setattr(translation, "BLOCK", 5)
    written: list[str] = []
    write_part = translation.write_arrays

    def noted(path: Path, arrays) -> None:
        written.append(path.name)
        write_part(path, arrays)

    monkeypatch.setattr(translation, "write_arrays", noted)
    monkeypatch.setattr(translation, "available_cores", lambda: 1)
    training(tmp_path / "killed")
    assert len(written) == 13 - done  # the vocabulary and twelve blocks
    training(tmp_path / "whole")
    assert stored(tmp_path / "killed") == stored(tmp_path / "whole")


def test_a_damaged_part_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path)
    monkeypatch.setattr(translation, "BLOCK", 5)
    with monkeypatch.context() as patch:
        patch.setattr(decoded, "_put_together", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            training(tmp_path)
    (folder,) = (tmp_path / ".decoded").iterdir()
    parts = sorted(folder.glob("*.npz"))
    parts[0].write_bytes(b"")
    parts[1].write_bytes(parts[1].read_bytes()[:-50])
    _, pairs = training(tmp_path)
    assert len(pairs.source.lengths) == 60
    assert [path.name[:4] for path in (tmp_path / ".decoded").iterdir()] == ["text"]


def test_who_is_overtaken_uses_what_the_other_has_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other finishes in the midst, and removes the parts that both have made."""
    make_folder(tmp_path)
    monkeypatch.setattr(translation, "BLOCK", 5)
    monkeypatch.setattr(translation, "available_cores", lambda: 1)
    write_part, seen = translation.write_arrays, []

    def overtaken(path: Path, arrays) -> None:
        seen.append(path)
        if len(seen) == 6:
            monkeypatch.setattr(translation, "write_arrays", write_part)
            seen.append(training(tmp_path))
        write_part(path, arrays)

    monkeypatch.setattr(translation, "write_arrays", overtaken)
    pieces, pairs = training(tmp_path)
    other, theirs = seen[-1]
    assert torch.equal(pieces.model, other.model)
    assert torch.equal(pairs.source.ids, theirs.source.ids)
    assert [path.name[:4] for path in (tmp_path / ".decoded").iterdir()] == ["text"]


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(path: Path, arrays) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(translation, "write_arrays", full)
    with pytest.raises(DataError, match=r"no place for the decoded form of 'text-(.|\n)*No space"):
        training(tmp_path)
    assert list((tmp_path / ".decoded").iterdir()) == []


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_the_lines_to_learn_from_are_evenly_spaced_however_they_come(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(wordpieces, "MOST_LINES", 10)
    for count, stride in ((0, 1), (10, 1), (11, 2), (20, 2), (21, 4), (97, 16)):
        given = [str(i) for i in range(count)]
        sample = wordpieces.LineSample()
        for start in range(0, count, block):
            sample.take(given[start : start + block])
        assert sample.lines == given[::stride]


@pytest.mark.parametrize("size", [1, 4, 60, 61])
@pytest.mark.parametrize("most", [None, 1, 7, 60])
def test_a_stream_of_a_text_has_the_lines_and_numbers_that_reading_it_has(
    tmp_path: Path, size: int, most: int | None
) -> None:
    folder = make_folder(tmp_path, train_en=b"\xef\xbb\xbf" + b"x\r\n" * 59 + b"\xef\xbb\xbfy")
    for language in BOTH:
        write(tmp_path / f"mine.{language}", lines(language, 60))
    for name in (folder.name, "mine"):
        corpus = find_parallel_text(name, BOTH, tmp_path)
        whole, blocks = corpus.read("train", most), list(corpus.training(most, size)())
        for i, side in enumerate(whole):
            assert [line for pairs in blocks for line in pairs[i].lines] == side.lines
            assert [n for pairs in blocks for n in pairs[i].numbers] == list(side.numbers)


def test_a_text_of_empty_lines_is_said_to_be_empty() -> None:
    with pytest.raises(ConfigError, match=r"^train\.en has no text: every line of it is empty$"):
        learn_pieces(["", ""], 60, "train.en")


def test_a_changed_text_has_its_own_vocabulary(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    first, _ = training(tmp_path)
    write(folder / "train.de", lines("de", 60, seed=1))
    second, _ = training(tmp_path)
    assert int(first.fingerprint) != int(second.fingerprint)


def encoded(count: int, seed: int = 0) -> Encoded:
    """Pairs of random ids whose lengths are correlated, as those of translations are."""
    draw = torch.Generator().manual_seed(seed)
    source = torch.randint(2, 30, (count,), generator=draw)
    target = (source + torch.randint(-2, 5, (count,), generator=draw)).clamp(min=2)
    sides = []
    for lengths in (source, target):
        starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
        sides.append(Sentences(torch.randint(4, 50, (int(starts[-1]),)).int(), starts))
    return Encoded(*sides)


@pytest.mark.parametrize(("count", "size"), [(1000, 16), (1000, 64), (37, 16), (5, 64), (3, 1)])
def test_every_epoch_shows_every_pair_once_in_the_same_number_of_batches(
    count: int, size: int
) -> None:
    buckets = Buckets(encoded(count), size)
    epochs = [buckets.epoch(0, epoch) for epoch in range(3)]
    for batches in epochs:
        assert torch.equal(torch.cat(batches).sort().values, torch.arange(count))
        assert len(batches) == buckets.batches
        assert all(len(batch) for batch in batches)
    assert count < 64 or not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert abs(count / buckets.batches - size) <= 0.25 * size or count <= size


def test_a_batch_holds_similar_lengths_and_about_as_many_pieces_as_the_others() -> None:
    pairs = encoded(20_000)
    batches = Buckets(pairs, 64).epoch(0, 0)
    slots = real = 0
    sizes = []
    for chosen in batches:
        for side in pairs:
            lengths = side.lengths[chosen]
            slots += int(lengths.max()) * len(lengths)
            real += int(lengths.sum())
        sizes.append(slots)
    assert 1 - real / slots < 0.1
    steps = torch.tensor(sizes, dtype=torch.float64).diff()
    assert steps.std() < 0.15 * steps.mean()


def test_a_padded_batch_begins_ends_and_fills_up() -> None:
    sides = Sentences(torch.tensor([7, 8, END, 9, END]).int(), torch.tensor([0, 3, 5]))
    chosen = torch.tensor([1, 0])
    assert padded(sides, chosen).tolist() == [[9, END, PAD], [7, 8, END]]
    assert padded(sides, chosen, begin=True)[0].tolist() == [BEGIN, 9, END, PAD]
