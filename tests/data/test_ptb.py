"""The Penn Treebank in the forms that people have, with torchtext as the oracle; then the real one,
if it is here, and the embedded corpus."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchtext.data import Field
from torchtext.datasets import PennTreebank

from nos_repro.data import ptb
from nos_repro.data.corpora import CORPORA, Corpus, Lines, Texts, number
from nos_repro.data.paths import data_folder
from nos_repro.data.ptb import read_ptb
from nos_repro.errors import ConfigError, DataError

USERS = data_folder()
"""The user's own folder, asked for before the tests hide it: read only."""

LINES = {"ptb.train.txt": 40, "ptb.valid.txt": 9, "ptb.test.txt": 11}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`ptb/` with three short texts over 20 words, and the matching counts."""
    generator = np.random.default_rng(0)
    names = ["<unk>", "N", *"abcdefghijklmnopqr"]
    counts = {}
    (tmp_path / "ptb").mkdir()
    for part, (name, lines) in enumerate(LINES.items()):
        text = [[str(word) for word in generator.choice(names[part:], 9)] for _ in range(lines)]
        written = "".join(f" {' '.join(line)} \n" for line in text)
        (tmp_path / "ptb" / name).write_text(written)
        counts[name] = 10 * lines
    monkeypatch.setattr(ptb, "PARTS", counts)
    monkeypatch.setattr(ptb, "WORDS", 21)
    return tmp_path


def numbered(folder: Path, vocabulary: int = 21) -> Corpus:
    return number(read_ptb(folder), vocabulary)


def same(one: Corpus, two: Corpus) -> bool:
    tensors = zip(one[1:], two[1:], strict=True)
    return one.words == two.words and all(torch.equal(a, b) for a, b in tensors)


def test_the_numbers_are_torchtexts(small: Path) -> None:
    field = Field(eos_token=None)
    parts = [PennTreebank(str(small / "ptb" / name), field) for name in LINES]
    ours = numbered(small)
    assert [len(part) for part in ours[1:]] == [400, 90, 110]
    for part, theirs in zip(ours[1:], parts, strict=True):
        assert [ours.words[n] for n in part] == theirs.examples[0].text
    field.build_vocab(parts[0], specials=[])
    frequent = sorted(field.vocab.freqs.items(), key=lambda item: (-item[1], item[0]))
    assert list(ours.words[2:]) == [w for w, _ in frequent if w not in ("<unk>", "<eos>")]


def test_every_form_holds_the_same(small: Path, tmp_path: Path) -> None:
    original = numbered(small)
    for form, folder in enumerate(ptb.FOLDERS):
        other = tmp_path / f"form{form}"
        (other / folder).mkdir(parents=True)
        for name in LINES:
            content = (small / "ptb" / name).read_bytes()
            if form % 2:
                (other / folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (other / folder / name).write_bytes(content)
        assert same(numbered(other), original)


def test_a_missing_part_is_named_and_where_it_belongs(small: Path) -> None:
    (small / "ptb" / "ptb.valid.txt").unlink()
    with pytest.raises(DataError, match=r"/ptb lacks ptb\.valid\.txt"):
        read_ptb(small)


def test_missing_data_is_one_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read_ptb(tmp_path)
    for hint in ("ptb.train.txt", "simple-examples/data/", "--data DIR", "NOS_REPRO_DATA"):
        assert hint in str(refused.value)


def test_a_text_that_is_cut_off_is_named_with_its_count(small: Path) -> None:
    path = small / "ptb" / "ptb.test.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match=r"ptb\.test\.txt has 100 words .* the Penn Treebank 110"):
        read_ptb(small)


def test_another_text_of_the_same_length_is_refused(small: Path) -> None:
    path = small / "ptb" / "ptb.train.txt"
    path.write_text(re.sub("[pqr]", "o", path.read_text()))
    with pytest.raises(DataError, match="has 18 different words, the Penn Treebank 21"):
        read_ptb(small)


def test_a_byte_that_is_not_utf8_is_named_with_its_line(small: Path) -> None:
    path = small / "ptb" / "ptb.valid.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"caf\xe9\n", *lines[5:]]))
    with pytest.raises(DataError, match=r"ptb\.valid\.txt, line 5: not UTF-8"):
        read_ptb(small)


def test_a_vocabulary_larger_than_the_text_allows_is_an_error(small: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt has 21 different words.*too few for .*22"):
        numbered(small, vocabulary=22)


def test_a_smaller_vocabulary_keeps_the_frequent_words(small: Path) -> None:
    whole, few = numbered(small), numbered(small, vocabulary=8)
    assert few.words == whole.words[:8]
    assert torch.equal(few.train, torch.where(whole.train < 8, whole.train, 0))


def test_words_only_the_training_part_has_are_known() -> None:
    texts = Texts(*(Lines([line.split()], "here") for line in ("a a b", "a c", "b")))
    corpus = number(texts, 4)
    assert corpus.words == ("<unk>", "<eos>", "a", "b")
    assert [part.tolist() for part in corpus[1:]] == [[2, 2, 3, 1], [2, 0, 1], [3, 1]]
    assert corpus.end == 1


def test_a_fingerprint_tells_words_and_their_order_apart(small: Path) -> None:
    corpus = numbered(small)
    swapped = corpus._replace(words=(*corpus.words[:-2], corpus.words[-1], corpus.words[-2]))
    assert corpus.fingerprint == numbered(small).fingerprint != swapped.fingerprint
    assert 0 < corpus.fingerprint < 2**60


def test_a_corpus_is_found_by_its_name_or_its_neighbours() -> None:
    assert CORPORA.find("ptb").vocabulary == 10_000
    with pytest.raises(ConfigError, match=r"unknown corpus 'pbt'\n  did you mean 'ptb'"):
        CORPORA.find("pbt")
    with pytest.raises(ConfigError, match=r"no Python module 'nobody\.knows'"):
        CORPORA.find("nobody.knows")


def test_your_own_corpus_is_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letters.py").write_text(
        "from nos_repro.data.corpora import CORPORA, Lines, Texts\n"
        "@CORPORA.register('letters', vocabulary=4)\n"
        "def read(data_dir):\n"
        "    return Texts(*[Lines([['a', 'b']], 'memory')] * 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert CORPORA.find("mine.letters").read(tmp_path).train.tolist() == [2, 3, 1]


def test_the_embedded_corpus_needs_no_file_and_keeps_its_parts_apart() -> None:
    source = CORPORA.find("pydoc")
    corpus = source.read(Path("/nowhere"))
    assert len(corpus.words) == source.vocabulary
    assert len(corpus.train) > 6 * max(len(corpus.val), len(corpus.test)) > 30_000
    assert same(corpus, source.read(Path("/elsewhere")))
    unknown = (corpus.test == 0).double().mean().item()
    assert unknown < 0.1


@pytest.mark.skipif(
    not any((USERS / folder / "ptb.train.txt").exists() for folder in ptb.FOLDERS),
    reason="no Penn Treebank in the user's data folder",
)
def test_the_real_penn_treebank_has_its_published_counts() -> None:
    corpus = CORPORA.find("ptb").read(USERS)
    assert [len(part) for part in corpus[1:]] == [929_589, 73_760, 82_430]
    assert len(corpus.words) == int(corpus.train.max()) + 1 == 10_000
    assert (corpus.train == corpus.end).sum() == 42_068
