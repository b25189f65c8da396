"""GNMT (Wu et al. 2016), which Table 4 trains: its settings, batches, loss and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nos_repro.data.buckets import Buckets, padded
from nos_repro.data.parallel import PARALLEL_TEXTS, ParallelCorpus, find_parallel_text
from nos_repro.data.translation import Encoded, Limits, encode, encoded_training, flat
from nos_repro.data.wordpieces import PAD, WordPieces
from nos_repro.errors import DataError
from nos_repro.tasks.base import OptimizerMaker, Task, TaskData, require
from nos_repro.tasks.gnmt_beam import BeamOptions, beam_search
from nos_repro.tasks.gnmt_bleu import References, bleu, signatures
from nos_repro.tasks.gnmt_model import Dropout, Network
from nos_repro.tasks.metrics import BLEU, BLEU_TOKENISED, LOSS, PERPLEXITY, Metric, perplexity
from nos_repro.tasks.registry import TASKS

PRECISIONS = ("32", "bf16")
EVALUATION_BATCH, EVALUATION_PIECES = 128, 128
"""Pairs per evaluation batch, and the length of a pair's two sides together, in word pieces, above
which a batch has fewer pairs. They are not settings: only speed and memory depend on them."""


class SentenceBatch(NamedTuple):
    """Sentence pairs in word pieces.

    A source ends with END; a target begins with BEGIN and ends with END; PAD fills both up.
    `vocabulary` is the vocabulary's fingerprint. `references` holds one object if the sources are
    to be translated. `weight` multiplies the loss of a share of a batch
    (`TranslationData.train_share`).
    """

    source: Int64[Tensor, "batch source"]
    target: Int64[Tensor, "batch target"]
    vocabulary: Int64[Tensor, ""]
    references: tuple[References, ...] = ()
    weight: Float[Tensor, ""] = torch.ones(())


@dataclass(frozen=True)
class GNMTSettings:
    """Wu et al. 2016, sec. 3 and 5, with batches of 128 as in 002 sec. 6.4."""

    data: str = "wmt14"
    languages: tuple[str, str] = ("en", "de")
    """From and to; the files' suffixes."""
    train_pairs: int | None = None
    """How many pairs of the training part to use, from the first on; None: all."""
    longest: int = 256
    """The most word pieces per side, END included."""
    leave_out: bool = False
    """Whether training pairs with an empty or too long side are left out instead of refused."""
    vocabulary: int = 32000
    """The word pieces of both languages together."""
    layers: int = 8
    width: int = 1024
    share_embeddings: bool = True
    dropout: float = 0.2
    label_smoothing: float = 0.0
    """Above 0 the training loss is no longer a log-perplexity; that of evaluations still is."""
    init: float = 0.04
    """All weights start from U(-init, init); Wu et al. use 0.04, other implementations 0.1."""
    batch_size: int = 128
    """The average number of pairs in a batch; all batches hold about as many word pieces."""
    beam: int = 5
    length_penalty: float = 0.2
    coverage_penalty: float = 0.2
    bleu_every: int = 1
    """Epochs between translations of the test part, which give its BLEU; 0: never. The last epoch
    has one if this divides the number of epochs."""
    precision: str = "32"
    """"32", or "bf16": bfloat16 autocast of the forward pass."""

    def __post_init__(self) -> None:
        for key, least in (("vocabulary", 5), ("layers", 2), ("width", 1), ("batch_size", 1),
                           ("beam", 1), ("longest", 2), ("bleu_every", 0)):  # fmt: skip
            value = getattr(self, key)
            require(value >= least, key, f"at least {least}", value)
        for key in ("dropout", "label_smoothing"):
            value = getattr(self, key)
            require(0 <= value < 1, key, "at least 0 and below 1", value)
        dropped = Dropout(self.dropout).dropped
        allowed = dropped < 256 and (dropped > 0 or self.dropout == 0)
        require(allowed, "dropout", "0, or from 1/256 to 255/256", self.dropout)
        for key in ("length_penalty", "coverage_penalty"):
            require(getattr(self, key) >= 0, key, "at least 0", getattr(self, key))
        require(self.init > 0, "init", "positive", self.init)
        require(
            self.train_pairs is None or self.train_pairs >= 1,
            "train_pairs",
            "at least 1",
            self.train_pairs,
        )
        require(
            len(self.languages) == 2 and all(self.languages),
            "languages",
            "two suffixes of files, e.g. [en, de]",
            self.languages,
        )
        require(
            self.precision in PRECISIONS,
            "precision",
            f"one of: {' '.join(PRECISIONS)}",
            f"'{self.precision}'",
        )


class TranslationData(TaskData):
    """Batches of sentence pairs of similar length (`data/buckets.py`); validation and test in the
    order of their length."""

    def __init__(self, settings: GNMTSettings, *, data_dir: Path, seed: int) -> None:
        super().__init__()
        require(seed >= 0, "seed", "at least 0", seed)
        self.settings = settings
        self.data_dir = data_dir
        self.seed = seed
        self._epochs: int | None = None

    def prepare(self) -> None:
        self._training, self._held_out  # noqa: B018  (the access reads them)

    @property
    def pieces(self) -> WordPieces:
        """The vocabulary."""
        return self._training[0]

    @property
    def _limits(self) -> Limits:
        return Limits(self.settings.longest, self.settings.leave_out)

    @cached_property
    def _corpus(self) -> ParallelCorpus:
        return find_parallel_text(self.settings.data, self.settings.languages, self.data_dir)

    @cached_property
    def _training(self) -> tuple[WordPieces, Encoded]:
        return encoded_training(
            self._corpus,
            self.data_dir,
            vocabulary=self.settings.vocabulary,
            most=self.settings.train_pairs,
            limits=self._limits,
        )

    @cached_property
    def _held_out(self) -> dict[str, tuple[Encoded, list[str]]]:
        """Validation and test: their pairs in pieces, and the targets as text."""
        parts = {}
        for part in ("val", "test"):
            pairs = self._corpus.read(part, None)
            parts[part] = encode(pairs, self.pieces, self._limits, part=part), pairs.target.lines
        return parts

    @cached_property
    def _buckets(self) -> Buckets:
        return Buckets(self._training[1], self.settings.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        return self._buckets.batches

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[SentenceBatch]:
        self._epochs = epoch + 1
        for chosen in self._buckets.epoch(self.seed, epoch)[start:]:
            yield self._batch(self._training[1], chosen)

    def train_share(self, epoch: int, start: int, rank: int, world: int) -> Iterator[SentenceBatch]:
        """Every `world`-th pair of each batch, from the `rank`-th on.

        The loss is a mean over word pieces, and shares have different numbers of them: weighted by
        these numbers, the mean of the shares' losses is the loss of the batch.
        """
        if world == 1:
            yield from self.train_batches(epoch, start)
            return
        self._epochs = epoch + 1
        pairs, lengths = self._training[1], self._training[1].target.lengths
        for chosen in self._buckets.epoch(self.seed, epoch)[start:]:
            own = chosen[rank::world]
            require(len(own) > 0, "batch_size", f"larger: {world} processes share a batch", world)
            weight = world * lengths[own].sum() / lengths[chosen].sum()
            yield self._batch(pairs, own)._replace(weight=weight)

    def val_batches(self) -> Iterator[SentenceBatch]:
        pairs, _ = self._held_out["val"]
        for chosen in _by_length(pairs):
            yield self._batch(pairs, chosen)

    def test_batches(self) -> Iterator[SentenceBatch]:
        pairs, texts = self._held_out["test"]
        every = self.settings.bleu_every
        translated = every > 0 and (self._epochs is None or self._epochs % every == 0)
        for chosen in _by_length(pairs):
            batch = self._batch(pairs, chosen)
            if translated:
                own = [texts[i] for i in chosen.tolist()]
                batch = batch._replace(references=(References(own, self.pieces),))
            yield batch

    def _batch(self, pairs: Encoded, chosen: Int64[Tensor, " batch"]) -> SentenceBatch:
        source = padded(pairs.source, chosen)
        target = padded(pairs.target, chosen, begin=True)
        return SentenceBatch(source, target, self.pieces.fingerprint)


def _by_length(pairs: Encoded) -> Iterator[Int64[Tensor, " batch"]]:
    """All pairs in the order of their sources' lengths, cut into evaluation batches."""
    order = pairs.source.lengths.argsort(stable=True)
    pieces = (pairs.source.lengths + pairs.target.lengths)[order]
    start = 0
    while start < len(order):
        longest = pieces[start : start + EVALUATION_BATCH].cummax(dim=0).values
        slots = longest * torch.arange(1, len(longest) + 1)
        fits = int((slots <= EVALUATION_BATCH * EVALUATION_PIECES).sum())
        yield order[start : start + max(1, fits)]
        start += max(1, fits)


@TASKS.register("gnmt")
class GNMT(Task):
    """Trained with teacher forcing on the mean cross entropy of a batch's target pieces, with END.

    *Departures*, where the papers are silent:

    - The loss is the mean over word pieces, so that it is a log-perplexity. Some implementations
      divide by the number of sentences instead: their gradients are larger by a sentence's length,
      and clipping the gradient's norm at 5 means something else.
    - Dropout acts on the input of every LSTM layer, embeddings included.
    - The decoder starts from a state of zeros.
    """

    Settings: ClassVar[type[Any]] = GNMTSettings
    measures: ClassVar[tuple[Metric, ...]] = (PERPLEXITY, LOSS, BLEU, BLEU_TOKENISED)
    label: ClassVar[str] = "GNMT {layers}x{width}"
    vocabulary: Int64[Tensor, ""]

    def __init__(
        self, settings: GNMTSettings, make_optimizer: OptimizerMaker | None = None
    ) -> None:
        super().__init__(settings, make_optimizer)
        self.network = Network(
            settings.vocabulary,
            settings.width,
            settings.layers,
            settings.dropout,
            settings.init,
            settings.share_embeddings,
        )
        self.search = BeamOptions(settings.beam, settings.length_penalty, settings.coverage_penalty)
        self.register_buffer("vocabulary", torch.tensor(0))
        self.register_load_state_dict_post_hook(_disagree)  # type: ignore[no-untyped-call]
        self._agreed = False

    @classmethod
    def make_data(cls, settings: GNMTSettings, *, data_dir: Path, seed: int) -> TranslationData:
        return TranslationData(settings, data_dir=data_dir, seed=seed)

    @classmethod
    def code(cls, settings: GNMTSettings) -> tuple[str, ...]:
        return PARALLEL_TEXTS.origins(settings.data)

    @classmethod
    def chance(cls, settings: GNMTSettings) -> float:
        return float(settings.vocabulary)

    @classmethod
    def remark(cls) -> str:
        """What a table says about the metrics. sacrebleu's version is in each record."""
        signs = [sign.partition("|version:")[0] for sign in signatures().values()]
        return (
            "Perplexity is per word piece, its logarithm in nats; that of the training part is over"
            f" the last epoch, with dropout. BLEU by sacrebleu: {signs[0]}; tokenised: {signs[1]}."
        )

    def agree(self, vocabulary: Int64[Tensor, ""]) -> None:
        """Notes which vocabulary the weights belong to; a checkpoint keeps it.

        Raises DataError if it is another one.
        """
        if self._agreed:
            return
        own, given = int(self.vocabulary), int(vocabulary)
        if own not in (0, given):
            raise DataError(
                f"the word pieces (fingerprint {given:016x}) are not those that the checkpoint was"
                f" trained with ({own:016x})\n"
                f"  the training text of '{self.settings.data}', or sentencepiece, has changed:"
                " restore the old one, or train again under another --results"
            )
        self.vocabulary.fill_(vocabulary)
        self._agreed = True

    def autocast(self, like: Tensor) -> torch.autocast:
        """The autocast that the network runs in, on the device of `like`."""
        enabled = self.settings.precision == "bf16"
        return torch.autocast(like.device.type, torch.bfloat16, enabled=enabled)

    def forward(
        self, source: Int64[Tensor, "batch source"], target: Int64[Tensor, "batch target"]
    ) -> tuple[Float[Tensor, "pieces vocabulary"], Int64[Tensor, " pieces"]]:
        """The logits of every target piece except BEGIN and PAD, and which piece it is."""
        with self.autocast(source):
            memory = self.network.encode(source)
            hidden = self.network.decode(target[:, :-1], memory).hidden
            wanted = target[:, 1:].t()
            real = wanted != PAD
            logits = self.network.classifier(hidden[real])
        return logits.float(), wanted[real]

    def training_step(self, batch: SentenceBatch, batch_idx: int = 0) -> Float[Tensor, ""]:
        self.agree(batch.vocabulary)
        logits, wanted = self(batch.source, batch.target)
        loss = F.cross_entropy(logits, wanted, label_smoothing=self.settings.label_smoothing)
        return loss * batch.weight

    def evaluation_sums(self, batch: SentenceBatch) -> dict[str, Tensor]:
        self.agree(batch.vocabulary)
        logits, wanted = self(batch.source, batch.target)
        sums = {
            "loss": F.cross_entropy(logits, wanted, reduction="sum").detach(),
            "count": torch.tensor(len(wanted)),
        }
        for references in batch.references:
            sums.update(references.sums(self.translate(batch.source)))
        return sums

    def translate(self, source: Int64[Tensor, "batch source"]) -> Int64[Tensor, "batch longest"]:
        """The best translations that the beam finds, with PAD after END."""
        with self.autocast(source):
            return beam_search(self.network, source, self.search)[0]

    def translate_lines(
        self, lines: Sequence[str], data: TaskData, where: str = "the text"
    ) -> list[str]:
        """The lines in the other language; an empty line stays empty.

        Raises DataError for a line with more than `longest` pieces (`where` names the text), and if
        the pieces are not those of the weights.
        """
        assert isinstance(data, TranslationData)
        pieces = data.pieces
        self.agree(pieces.fingerprint)
        ids = pieces.encode(lines)
        for number, line in enumerate(ids, start=1):
            if len(line) + 1 > self.settings.longest:
                raise DataError(
                    f"{where}, line {number:,}: {len(line) + 1:,} word pieces, task.longest is"
                    f" {self.settings.longest:,}\n  split it into sentences"
                )
        translated = [""] * len(lines)
        full = sorted((i for i, line in enumerate(ids) if line), key=lambda i: len(ids[i]))
        for start in range(0, len(full), EVALUATION_BATCH):
            chosen = full[start : start + EVALUATION_BATCH]
            source = padded(flat([ids[i] for i in chosen]), torch.arange(len(chosen)))
            for i, text in zip(chosen, pieces.decode(self.translate(source)), strict=True):
                translated[i] = text
        return translated

    @staticmethod
    def metrics(sums: dict[str, float]) -> dict[str, float]:
        """The loss (log-perplexity, nats per word piece), its exponential, and BLEU in percent."""
        loss = sums["loss"] / sums["count"]
        return {"loss": loss, "perplexity": perplexity(loss), **bleu(sums)}


def _disagree(task: nn.Module, _: object) -> None:
    """Other weights may belong to another vocabulary."""
    assert isinstance(task, GNMT)
    task._agreed = False
