"""BLEU as sums that add up over batches, with sacrebleu.

BLEU of a corpus is a function of ten sums: the matching n-grams and all n-grams, for n from 1 to 4,
and the two lengths. So a batch reports the ten sums, and the whole set's BLEU, computed from their
totals, is sacrebleu's own, to the last digit.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int64
from torch import Tensor

from nos_repro.data.wordpieces import WordPieces

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

# fmt: off
FORMS: dict[str, str] = {
    # metric:         tokenizer of sacrebleu
    "bleu":           "13a",   # detokenised text, cased: comparable with others' numbers
    "bleu_tokenised": "intl",  # splits at hyphens too, as the script behind GNMT's numbers did
}
# fmt: on
ORDERS = 4
SUMS = (
    *(f"match{n}" for n in range(1, ORDERS + 1)),
    *(f"all{n}" for n in range(1, ORDERS + 1)),
    *("length", "reference"),
)


@functools.cache
def metric(form: str) -> BLEU:
    """sacrebleu's metric of that form: cased, one reference, smoothed if nothing matches."""
    from sacrebleu.metrics.bleu import BLEU  # only text needs it, and every study imports this

    return BLEU(tokenize=FORMS[form], force=True)


def signatures() -> dict[str, str]:
    """What sacrebleu prints so that a BLEU can be reproduced."""
    signs = {}
    for form in FORMS:
        metric(form).corpus_score(["a"], [["a"]])  # it then knows the number of references
        signs[form] = str(metric(form).get_signature())
    return signs


class References:
    """The reference translations of a batch, and the vocabulary that turns pieces into text."""

    def __init__(self, texts: Sequence[str], pieces: WordPieces) -> None:
        self.texts = list(texts)
        self.pieces = pieces

    def sums(self, translations: Int64[Tensor, "batch longest"]) -> dict[str, Tensor]:
        """The sums of both forms, for translations in word pieces."""
        return bleu_sums(self.pieces.decode(translations), self.texts)


def bleu_sums(translations: Sequence[str], references: Sequence[str]) -> dict[str, Tensor]:
    sums = {}
    for form in FORMS:
        score = metric(form).corpus_score(list(translations), [list(references)])
        numbers = (*score.counts, *score.totals, score.sys_len, score.ref_len)
        for name, number in zip(SUMS, numbers, strict=True):
            sums[f"{form}_{name}"] = torch.tensor(float(number), dtype=torch.float64)
    return sums


def bleu(sums: Mapping[str, float]) -> dict[str, float]:
    """BLEU in percent, in each form; {} if nothing was translated."""
    scores = {}
    for form in FORMS:
        if f"{form}_{SUMS[0]}" not in sums:
            continue
        numbers = [int(sums[f"{form}_{name}"]) for name in SUMS]
        score = metric(form).compute_bleu(
            correct=numbers[:ORDERS],
            total=numbers[ORDERS : 2 * ORDERS],
            sys_len=numbers[-2],
            ref_len=numbers[-1],
            smooth_method=metric(form).smooth_method,
        )
        scores[form] = float(score.score)
    return scores
