"""The language model of sec. 6.5: its settings and its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from nos_repro.data.corpora import CORPORA
from nos_repro.tasks.facts.base import PRECISION, TaskFacts, require
from nos_repro.tasks.metrics import LOSS, PERPLEXITY, Metric
from nos_repro.tasks.registry import FACTS

PRECISIONS = ("32", "bf16")
MODELS = ("gal", "melis")


@dataclass(frozen=True)
class PtbLstmSettings:
    """Sec. 6.5: batch 64, 35 steps; sizes and dropouts are Melis et al.'s for 10 M parameters."""

    data: str = "ptb"
    """A corpus: `ptb`, `pydoc` (embedded), or a module of your own."""
    vocabulary: int | None = None
    """Words, with `<unk>` and `<eos>`; None: the corpus' own number, 10,000 for PTB."""
    hidden: int = 1194
    """Units of the LSTM."""
    embedding: int = 268
    """The paper's "embedding ratio" is this over `hidden`."""
    model: str = "gal"
    """`gal`: variational dropout, as the paper says (Gal & Ghahramani); `melis`: the model that
    Melis et al. tuned the dropouts on (masks fresh at each step, a capped input gate)."""
    input_dropout: float = 0.58
    """On the embedded words; one mask for all steps of a segment (`gal`), or one per step."""
    state_dropout: float = 0.215
    """On the hidden state where it is fed back."""
    output_dropout: float = 0.327
    """On the output before its projection; of `melis` after it too."""
    state_reset: float = 0.01
    """The probability that a segment's state starts at zero, drawn for each text of a batch."""
    batch_size: int = 64
    """Segments per update."""
    time_steps: int = 35
    """Words per segment."""
    steps_per_epoch: int | None = None
    """The length of an epoch, a point of the curve; None: once round the corpus, 415 for PTB."""
    precision: str = field(default="32", metadata=PRECISION)
    """"32", or "bf16": the layer and the products after it in bfloat16; weights and loss stay in
    float32."""

    def __post_init__(self) -> None:
        CORPORA.check(self.data)
        for key in ("hidden", "embedding", "batch_size", "time_steps"):
            require(getattr(self, key) >= 1, key, "at least 1", getattr(self, key))
        for key in ("input_dropout", "state_dropout", "output_dropout", "state_reset"):
            value = getattr(self, key)
            require(0 <= value < 1, key, "at least 0 and below 1", value)
        require(self.model in MODELS, "model", f"one of: {' '.join(MODELS)}", f"'{self.model}'")
        if self.vocabulary is not None:
            require(self.vocabulary >= 3, "vocabulary", "at least 3", self.vocabulary)
        if self.steps_per_epoch is not None:
            steps = self.steps_per_epoch
            require(steps >= 1, "steps_per_epoch", "at least 1", steps)
        require(
            self.precision in PRECISIONS,
            "precision",
            f"one of: {' '.join(PRECISIONS)}",
            f"'{self.precision}'",
        )

    @property
    def words(self) -> int:
        """The size of the vocabulary."""
        return self.vocabulary or CORPORA.find(self.data).vocabulary


@FACTS.register("ptb_lstm")
class PtbLstmFacts(TaskFacts):
    """An LSTM over a corpus."""

    Settings: ClassVar[type[Any]] = PtbLstmSettings
    measures: ClassVar[tuple[Metric, ...]] = (PERPLEXITY, LOSS)

    @classmethod
    def chance(cls, settings: PtbLstmSettings) -> float:
        return float(settings.words)

    @classmethod
    def code(cls, settings: PtbLstmSettings) -> tuple[str, ...]:
        return CORPORA.origins(settings.data)
