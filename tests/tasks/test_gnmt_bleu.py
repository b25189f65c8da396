"""BLEU as sums: the whole set's is sacrebleu's own."""

import random

import pytest
import sacrebleu

from nos_repro.tasks.gnmt_bleu import FORMS, bleu, bleu_sums, signatures

WORDS = "ein Mann fährt das kleine, rote Fahrrad bei zwei alten Häusern - es regnet ."


def texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS.split(), k=draw.randint(1, 12))) for _ in range(count)]


def corrupted(lines: list[str]) -> list[str]:
    draw = random.Random(9)
    return [" ".join(w for w in line.split() if draw.random() > 0.2) or "?" for line in lines]


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_sums_of_batches_give_sacrebleus_corpus_score(batch: int) -> None:
    references = texts(40, 0)
    translations = corrupted(references)
    sums: dict[str, float] = {}
    for start in range(0, 40, batch):
        part = slice(start, start + batch)
        for key, value in bleu_sums(translations[part], references[part]).items():
            sums[key] = sums.get(key, 0.0) + float(value)
    for form, tokenizer in FORMS.items():
        expected = sacrebleu.corpus_bleu(translations, [references], tokenize=tokenizer).score
        assert 5 < bleu(sums)[form] == expected < 95


def test_a_perfect_translation_has_100_and_an_empty_one_0() -> None:
    references = [line for line in texts(20, 1) if len(line.split()) > 4]
    perfect = {k: float(v) for k, v in bleu_sums(references, references).items()}
    assert bleu(perfect) == pytest.approx(dict.fromkeys(FORMS, 100.0))
    empty = {k: float(v) for k, v in bleu_sums([""] * len(references), references).items()}
    assert bleu(empty) == dict.fromkeys(FORMS, 0.0)


def test_without_any_translation_there_is_no_bleu() -> None:
    assert bleu({"loss": 1.0, "count": 2.0}) == {}


def test_the_signatures_name_the_tokenizers_and_the_version() -> None:
    signs = signatures()
    assert signs["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "tok:intl" in signs["bleu_tokenised"]
