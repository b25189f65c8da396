"""GNMT: its settings, its metrics and its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nos_repro.data.parallel import PARALLEL_TEXTS
from nos_repro.tasks.facts.base import PRECISION, TaskFacts, require
from nos_repro.tasks.metrics import BLEU, BLEU_TOKENISED, LOSS, PERPLEXITY, Metric
from nos_repro.tasks.registry import FACTS

PRECISIONS = ("32", "bf16")
LOSS_UNITS = ("piece", "sentence")
SIGNATURES = {
    "bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp",
    "bleu_tokenised": "nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp",
}
"""What sacrebleu prints, but for its version, so that a BLEU can be reproduced."""


def dropped_of(probability: float) -> int:
    """How many of 256 are dropped."""
    return round(256 * probability)


@dataclass(frozen=True)
class GNMTSettings:
    """Wu et al. 2016, sec. 3 and 5, with batches of 128 as in 002 sec. 6.4."""

    data: str = "wmt14"
    """Parallel text: a folder's name or path, two files, `numbers` (embedded), or a module of your
    own."""
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
    """LSTM layers of the encoder, and of the decoder."""
    width: int = 1024
    """Units of each layer, and of an embedding."""
    share_embeddings: bool = True
    """Both languages and the output layer share one table of word pieces."""
    dropout: float = 0.2
    """On the input of every LSTM layer."""
    loss_per: str = "piece"
    """What the training loss, a sum over the target's word pieces, is divided by: "piece", or
    "sentence" as in tensorflow/nmt and NVIDIA's code, to whose scale a gradient norm of 5 and the
    published rates belong. Tables show the loss per piece in either case."""
    label_smoothing: float = 0.0
    """Above 0 the training loss is no longer a log-perplexity; that of evaluations still is."""
    init: float = 0.04
    """All weights start from U(-init, init); Wu et al. use 0.04, other implementations 0.1."""
    batch_size: int = 128
    """The average number of pairs in a batch; all batches hold about as many word pieces."""
    beam: int = 5
    """Hypotheses that the translation keeps."""
    length_penalty: float = 0.2
    """Wu et al.'s alpha: above 0, longer translations are favoured."""
    coverage_penalty: float = 0.2
    """Wu et al.'s beta: above 0, translations that attend to every source word are favoured."""
    bleu_every: int = 1
    """Epochs between translations of the test part, which give its BLEU; 0: never. The last epoch
    has one if this divides the number of epochs."""
    validation_bleu: bool = False
    """Whether the validation part is translated in these epochs too."""
    precision: str = field(default="32", metadata=PRECISION)
    """"32", or "bf16": bfloat16 autocast of the forward pass."""

    def __post_init__(self) -> None:
        for key, least in (("vocabulary", 5), ("layers", 2), ("width", 1), ("batch_size", 1),
                           ("beam", 1), ("longest", 2), ("bleu_every", 0)):  # fmt: skip
            value = getattr(self, key)
            require(value >= least, key, f"at least {least}", value)
        for key in ("dropout", "label_smoothing"):
            value = getattr(self, key)
            require(0 <= value < 1, key, "at least 0 and below 1", value)
        dropped = dropped_of(self.dropout)
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
            self.loss_per in LOSS_UNITS,
            "loss_per",
            f"one of: {' '.join(LOSS_UNITS)}",
            f"'{self.loss_per}'",
        )
        require(
            self.precision in PRECISIONS,
            "precision",
            f"one of: {' '.join(PRECISIONS)}",
            f"'{self.precision}'",
        )


@FACTS.register("gnmt")
class GNMTFacts(TaskFacts):
    """A translator."""

    Settings: ClassVar[type[Any]] = GNMTSettings
    measures: ClassVar[tuple[Metric, ...]] = (PERPLEXITY, LOSS, BLEU, BLEU_TOKENISED)
    label: ClassVar[str] = "GNMT {layers}x{width}"

    @classmethod
    def code(cls, settings: GNMTSettings) -> tuple[str, ...]:
        return PARALLEL_TEXTS.origins(settings.data)

    @classmethod
    def chance(cls, settings: GNMTSettings) -> float:
        return float(settings.vocabulary)

    @classmethod
    def remark(cls) -> str:
        """What a table says about the metrics. sacrebleu's version is in each record."""
        plain, tokenised = SIGNATURES.values()
        return (
            "Perplexity is per word piece, its logarithm in nats; that of the training part is over"
            f" the last epoch, with dropout. BLEU by sacrebleu: {plain}; tokenised: {tokenised}."
        )
