"""GNMT (Wu et al. 2016), which Table 4 trains: its settings, batches, loss and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nos_repro.data.buckets import Buckets, padded
from nos_repro.data.parallel import ParallelCorpus, find_parallel_text
from nos_repro.data.translation import Encoded, Limits, encode, encoded_training, flat
from nos_repro.data.wordpieces import PAD, WordPieces
from nos_repro.errors import DataError
from nos_repro.tasks.base import OptimizerMaker, Task, TaskData
from nos_repro.tasks.facts.base import require
from nos_repro.tasks.facts.gnmt import GNMTFacts, GNMTSettings
from nos_repro.tasks.gnmt_beam import BeamOptions, beam_search
from nos_repro.tasks.gnmt_bleu import References, bleu
from nos_repro.tasks.gnmt_model import Layer, Network
from nos_repro.tasks.metrics import perplexity
from nos_repro.tasks.registry import TASKS

EVALUATION_BATCH, EVALUATION_PIECES = 128, 128
"""Pairs per evaluation batch, and the length of a pair's two sides together, in word pieces, above
which a batch has fewer pairs. They are not settings: only speed and memory depend on them."""


class SentenceBatch(NamedTuple):
    """Sentence pairs in word pieces.

    A source ends with END; a target begins with BEGIN and ends with END; PAD fills both up.
    `length` is the mean number of a target's pieces, with END, in the whole batch. `vocabulary` is
    the vocabulary's fingerprint. `references` holds one object if the sources are to be translated.
    `weight` multiplies the loss of a share of a batch (`TranslationData.train_share`). `places` are
    those of the pieces to predict, as `find_places` finds them: on the host, which would have to
    wait if a GPU counted them.
    """

    source: Int64[Tensor, "batch source"]
    target: Int64[Tensor, "batch target"]
    length: Float[Tensor, ""]
    vocabulary: Int64[Tensor, ""]
    references: tuple[References, ...] = ()
    weight: Float[Tensor, ""] = torch.ones(())
    places: Int64[Tensor, " pieces"] | None = None


def find_places(target: Int64[Tensor, "batch target"]) -> Int64[Tensor, " pieces"]:
    """The places of all pieces except BEGIN and PAD, time by time."""
    return (target[:, 1:].t() != PAD).flatten().nonzero().squeeze(1)


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

        A share's loss is a mean over its word pieces, and shares have different numbers of them:
        weighted by these numbers, the mean of the shares' losses is the loss of the batch.
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
            yield self._batch(pairs, own)._replace(length=_mean(lengths[chosen]), weight=weight)

    def val_batches(self) -> Iterator[SentenceBatch]:
        return self._evaluated("val", translated=self.settings.validation_bleu)

    def test_batches(self) -> Iterator[SentenceBatch]:
        return self._evaluated("test", translated=True)

    def _evaluated(self, part: str, *, translated: bool) -> Iterator[SentenceBatch]:
        """The batches of a held-out part, with references if this epoch translates it."""
        pairs, texts = self._held_out[part]
        every = self.settings.bleu_every
        translated &= every > 0 and (self._epochs is None or self._epochs % every == 0)
        for chosen in _by_length(pairs):
            batch = self._batch(pairs, chosen)
            if translated:
                own = [texts[i] for i in chosen.tolist()]
                batch = batch._replace(references=(References(own, self.pieces),))
            yield batch

    def _batch(self, pairs: Encoded, chosen: Int64[Tensor, " batch"]) -> SentenceBatch:
        source = padded(pairs.source, chosen)
        target = padded(pairs.target, chosen, begin=True)
        length, places = _mean(pairs.target.lengths[chosen]), find_places(target)
        return SentenceBatch(source, target, length, self.pieces.fingerprint, places=places)


def _mean(lengths: Int64[Tensor, " pairs"]) -> Float[Tensor, ""]:
    return lengths.sum() / len(lengths)


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
class GNMT(GNMTFacts, Task):
    """Trained with teacher forcing on the cross entropy of a batch's target pieces, with END.

    *Readings*, where the papers are silent:

    - What is differentiated is the sum over the pieces divided by the number of sentences (Table 4)
      or of pieces (`loss_per`). tensorflow/nmt and NVIDIA's code divide by sentences; their
      gradients are larger by a sentence's length, and it is these whose norm is clipped at 5.
      Curves and tables show the loss per piece, a log-perplexity.
    - Dropout acts on the input of every LSTM layer, embeddings included.
    - The decoder starts from a state of zeros.
    """

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

    def shards(self) -> Iterator[nn.Module]:
        attention = self.network.decoder.attention
        yield attention.key  # called from outside, with the whole source
        yield attention
        yield from (m for m in self.network.modules() if isinstance(m, nn.Embedding | Layer))
        yield self.network.classifier

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
        self,
        source: Int64[Tensor, "batch source"],
        target: Int64[Tensor, "batch target"],
        places: Int64[Tensor, " pieces"] | None = None,
    ) -> tuple[Float[Tensor, "pieces vocabulary"], Int64[Tensor, " pieces"]]:
        """The logits of every target piece except BEGIN and PAD, and which piece it is; ``places``
        are theirs, if they are known."""
        places = find_places(target) if places is None else places
        with self.autocast(source):
            memory = self.network.encode(source)
            hidden = self.network.decode(target[:, :-1], memory).hidden
            logits = self.network.classifier(hidden.flatten(0, 1).index_select(0, places))
        return logits.float(), target[:, 1:].t().flatten().index_select(0, places)

    def training_step(self, batch: SentenceBatch, batch_idx: int = 0) -> Float[Tensor, ""]:
        self.agree(batch.vocabulary)
        logits, wanted = self(batch.source, batch.target, batch.places)
        loss = F.cross_entropy(logits, wanted, label_smoothing=self.settings.label_smoothing)
        loss = loss * batch.weight
        return loss * batch.length if self.settings.loss_per == "sentence" else loss

    def shown_loss(self, loss: Float[Tensor, ""], batch: SentenceBatch) -> Float[Tensor, ""]:
        """Per word piece."""
        return loss / batch.length if self.settings.loss_per == "sentence" else loss

    def evaluation_sums(self, batch: SentenceBatch) -> dict[str, Tensor]:
        self.agree(batch.vocabulary)
        logits, wanted = self(batch.source, batch.target, batch.places)
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
