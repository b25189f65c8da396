"""The language model of sec. 6.5: one LSTM layer over a corpus, Penn Treebank (002 Table 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from nos_repro.data.corpora import CORPORA, END, UNKNOWN, Corpus
from nos_repro.errors import DataError
from nos_repro.tasks.base import OptimizerMaker, Task, TaskData
from nos_repro.tasks.facts.base import require
from nos_repro.tasks.facts.ptb_lstm import PtbLstmFacts, PtbLstmSettings
from nos_repro.tasks.metrics import perplexity
from nos_repro.tasks.recurrence import LstmState, Weights, lstm
from nos_repro.tasks.registry import TASKS
from nos_repro.tasks.softmax import cross_entropy

EVALUATION_STEPS = 1024
"""Words per evaluation segment. It is not a setting: only the speed depends on it."""

BEGINNING = 3
"""First word of the seed of a walk's beginning: it keeps the streams of one seed apart."""


class Segment(NamedTuple):
    """A piece of each of a batch's texts, as long as backpropagation reaches."""

    words: Int64[Tensor, "time+1 batch"]
    """The words read, and the one after them: word t + 1 is the target of word t."""
    fresh: Bool[Tensor, ""]
    """Whether the texts begin here; if not, the previous segment's state is carried on."""
    vocabulary: Int64[Tensor, ""]
    """The fingerprint of the words that the numbers stand for."""


class CorpusData(TaskData):
    """An endless walk through a corpus, cut into segments.

    The training part is circular. `batch_size` readers start at equal distances, from a place that
    the seed chooses, and each segment continues where the one before ended. When a reader reaches
    the place where the next one started, it reads on: no epoch resets the state, none leaves out a
    word, and an epoch may have any number of steps.

    *Departures*: the paper says neither what happens at the end of the corpus nor whether the last
    words, which do not fill a segment, are read. In evaluation the first word of a part is
    predicted from `<eos>`, so that every token of the part counts.
    """

    def __init__(self, settings: PtbLstmSettings, *, data_dir: Path, seed: int) -> None:
        super().__init__()
        require(seed >= 0, "seed", "at least 0", seed)
        self.settings = settings
        self.data_dir = data_dir
        self.seed = seed

    def prepare(self) -> None:
        self._begin  # noqa: B018  (the access reads the corpus)

    @cached_property
    def corpus(self) -> Corpus:
        """The numbered corpus. Raises DataError."""
        return CORPORA.find(self.settings.data).read(self.data_dir, self.settings.vocabulary)

    @cached_property
    def _begin(self) -> Int64[Tensor, " batch"]:
        """Where each reader starts."""
        batch, tokens = self.settings.batch_size, len(self.corpus.train)
        require(
            batch * self.settings.time_steps <= tokens,
            "batch_size",
            f"at most {tokens // self.settings.time_steps:,} for '{self.settings.data}' "
            f"({tokens:,} tokens, {self.settings.time_steps} a segment)",
            batch,
        )
        first = int(np.random.default_rng([BEGINNING, self.seed]).integers(tokens))
        return first + torch.arange(batch) * tokens // batch

    @property
    def steps_per_epoch(self) -> int:
        settings = self.settings
        round_trip = -(-len(self.corpus.train) // (settings.batch_size * settings.time_steps))
        return settings.steps_per_epoch or round_trip

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Segment]:
        length, ring = self.settings.time_steps, self.corpus.train
        first = epoch * self.steps_per_epoch
        for step in range(first + start, first + self.steps_per_epoch):
            places = self._begin + step * length + torch.arange(length + 1)[:, None]
            yield self._segment(ring[places % len(ring)], fresh=step == 0)

    def train_share(self, epoch: int, start: int, rank: int, world: int) -> Iterator[Segment]:
        """All of it: no other process's checkpoint has the state that one carries from segment to
        segment. Raises ConfigError for more than one process."""
        require(world == 1, "name", "trained by one process, for it carries its state", "ptb_lstm")
        return self.train_batches(epoch, start)

    def val_batches(self) -> Iterator[Segment]:
        return self._in_order(self.corpus.val)

    def test_batches(self) -> Iterator[Segment]:
        return self._in_order(self.corpus.test)

    def _in_order(self, part: Int64[Tensor, " tokens"]) -> Iterator[Segment]:
        """The part as one text: batch 1, whose state is carried from segment to segment."""
        text = torch.cat([torch.tensor([self.corpus.end]), part])[:, None]
        for start in range(0, len(part), EVALUATION_STEPS):
            yield self._segment(text[start : start + EVALUATION_STEPS + 1], fresh=start == 0)

    def _segment(self, words: Int64[Tensor, "length batch"], fresh: bool) -> Segment:
        return Segment(words, torch.tensor(fresh), torch.tensor(self.corpus.fingerprint))


class Masks(NamedTuple):
    """What dropout multiplies with, [batch, features] or [time, batch, features]; None: nothing."""

    input: Tensor | None = None
    state: Tensor | None = None
    output: Tensor | None = None
    projected: Tensor | None = None


NO_MASKS = Masks()


def masked(x: Float[Tensor, "time batch features"], mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


@TASKS.register("ptb_lstm")
class PtbLstm(PtbLstmFacts, Task):
    """Embedding, dropout, LSTM, dropout, down-projection, softmax tied to the embedding.

    9,997,280 parameters with 10,000 words: 2,680,000 in the embedding, 6,987,288 in the layer with
    one bias per gate, 319,992 in the projection (1194 to 268, no bias), 10,000 in the softmax.

    *Readings*:

    - Variational dropout: each text of the batch has one mask per segment, the same for all time
      steps; what is kept is scaled by 1 / (1 - p). There are three (Melis et al. 2017): on the
      embedded input, on the hidden state where it is fed back (Gal & Ghahramani 2016; the cell, the
      output and the state that goes on to the next segment are not masked), and on the output,
      before its projection.
    - `model: melis` is what Melis et al. tuned these rates on, by the defaults of their code: only
      the state's mask is shared by the steps; the output is dropped again after its projection, at
      the same rate; the input gate is capped at what the forget gate leaves; the projection starts
      orthogonal.
    - Loss: the sum over the 35 steps, the mean over the batch, as in Melis et al. and TensorFlow's
      PTB tutorial. On this scale the gradient's norm is clipped to 5.0, and Melis' L2 penalty is
      1.24e-4 (here `weight_decay`, added after clipping). With a mean over tokens both would be
      divided by 35. Evaluation is per token.
    - Initialisation: the embedding from U(-0.1, 0.1), the biases of the softmax 0, everything else
      as in torch.

    The state is part of `state_dict`: a resumed run continues from it. So is the fingerprint of the
    vocabulary: weights for other words raise DataError at the first batch.
    """

    hidden: Tensor
    cell: Tensor
    vocabulary: Tensor

    def __init__(
        self, settings: PtbLstmSettings, make_optimizer: OptimizerMaker | None = None
    ) -> None:
        super().__init__(settings, make_optimizer)
        words, size = settings.words, settings.hidden
        self.embedding = nn.Parameter(torch.empty(words, settings.embedding).uniform_(-0.1, 0.1))
        self.layer = Weights(settings.embedding, size)
        self.projection = nn.Linear(size, settings.embedding, bias=False)
        if settings.model == "melis":
            nn.init.orthogonal_(self.projection.weight)
        self.bias = nn.Parameter(torch.zeros(words))
        self.register_buffer("hidden", torch.zeros(settings.batch_size, size))
        self.register_buffer("cell", torch.zeros(settings.batch_size, size))
        self.register_buffer("vocabulary", torch.tensor(0))
        self.register_load_state_dict_post_hook(_forget_what_was_seen)  # type: ignore[no-untyped-call]
        self._seen = False
        self._reading: LstmState | None = None

    @classmethod
    def make_data(cls, settings: PtbLstmSettings, *, data_dir: Path, seed: int) -> TaskData:
        return CorpusData(settings, data_dir=data_dir, seed=seed)

    def output_layers(self) -> Iterable[nn.Module]:
        """None of its own: the embedding makes the outputs too."""
        return ()

    def training_step(self, batch: Segment, batch_idx: int = 0) -> Float[Tensor, ""]:
        settings = self.settings
        goes_on = self._kept((), 1, settings.state_reset) & ~batch.fresh
        before = LstmState(*(torch.where(goes_on, x, 0.0) for x in (self.hidden, self.cell)))
        melis = settings.model == "melis"
        steps = (len(batch.words) - 1,) if melis else ()
        masks = Masks(
            self._mask(steps, settings.embedding, settings.input_dropout),
            self._mask((), settings.hidden, settings.state_dropout),
            self._mask(steps, settings.hidden, settings.output_dropout),
            self._mask(steps, settings.embedding, settings.output_dropout) if melis else None,
        )
        loss, state = self._read(batch, before, masks)
        self.hidden.copy_(state.hidden)
        self.cell.copy_(state.cell)
        mean: Tensor = loss / settings.batch_size
        return mean

    def evaluation_sums(self, batch: Segment) -> dict[str, Tensor]:
        """For segments in order: each continues from the state that the last one left."""
        with torch.no_grad():
            zero = self.embedding.new_zeros(batch.words.shape[1], self.settings.hidden)
            before = self._reading or LstmState(zero, zero)
            state = LstmState(*(torch.where(batch.fresh, zero, value) for value in before))
            loss, self._reading = self._read(batch, state)
        return {"loss": loss, "count": torch.tensor(batch.words[1:].numel())}

    @torch.no_grad()
    def continue_text(
        self, text: str, data: TaskData, words: int, *, temperature: float, seed: int
    ) -> str:
        """The text and the next ``words`` words (`write_on`), a line each where `<eos>` says so."""
        assert isinstance(data, CorpusData)
        written = self.write_on(text, data.corpus, words, temperature=temperature, seed=seed)
        return " ".join([text, *written]).replace(f" {END}", "\n").replace("\n ", "\n").strip()

    def write_on(
        self, text: str, corpus: Corpus, count: int, *, temperature: float = 1.0, seed: int = 0
    ) -> list[str]:
        """The next `count` words after the text, each drawn given all before it.

        The text begins a line; a word that the corpus does not have is read as `<unk>`, which is
        never written. Probabilities are proportional to p ** (1 / temperature); at 0 the most
        likely word is taken. Raises DataError if the corpus' words are not those of the weights.
        """
        self._agree(corpus.fingerprint)
        numbers = {word: number for number, word in enumerate(corpus.words)}
        unknown, device = numbers[UNKNOWN], self.embedding.device
        draw = torch.Generator().manual_seed(seed)
        read = [corpus.end, *(numbers.get(word, unknown) for word in text.split())]
        zero = self.embedding.new_zeros(1, self.settings.hidden)
        state, written = LstmState(zero, zero), []
        for _ in range(count):
            inputs = F.embedding(torch.tensor(read, device=device)[:, None], self.embedding)
            outputs, state = lstm(inputs, state, self.layer, capped=self._capped)
            logits = F.linear(self.projection(outputs[-1, 0]), self.embedding, self.bias).cpu()
            logits[unknown] = -torch.inf
            if temperature:
                share = (logits.double() / temperature).softmax(dim=0)
                read = torch.multinomial(share, 1, generator=draw).tolist()
            else:
                read = [int(logits.argmax())]
            written.append(corpus.words[read[0]])
        return written

    @staticmethod
    def metrics(sums: dict[str, float]) -> dict[str, float]:
        """Mean loss in nats, and perplexity, both per word, `<eos>` included."""
        loss = sums["loss"] / sums["count"]
        return {"loss": loss, "perplexity": perplexity(loss)}

    def _read(
        self,
        segment: Segment,
        state: LstmState,
        masks: Masks = NO_MASKS,
    ) -> tuple[Float[Tensor, ""], LstmState]:
        """The sum of the segment's losses, and the state after it."""
        if not self._seen:  # once per loaded state: reading it waits for the device
            self._agree(int(segment.vocabulary))
        kind = torch.bfloat16 if self.settings.precision == "bf16" else self.embedding.dtype
        inputs = masked(F.embedding(segment.words[:-1], self.embedding), masks.input).to(kind)
        outputs, state = lstm(inputs, state, self.layer, masks.state, self._capped)
        outputs = masked(outputs, masks.output).to(kind)
        features = masked(F.linear(outputs, self.projection.weight.to(kind)), masks.projected)
        rows, targets = features.flatten(0, 1).to(kind), segment.words[1:].flatten()
        return cross_entropy(rows, self.embedding, self.bias, targets), state

    @property
    def _capped(self) -> bool:
        """Whether the input gate is capped."""
        return bool(self.settings.model == "melis")

    def _kept(
        self, steps: tuple[int, ...], features: int, dropped: float
    ) -> Bool[Tensor, "*time batch features"]:
        """True with probability 1 - ``dropped``."""
        size = (*steps, self.settings.batch_size, features)
        return torch.rand(size, device=self.embedding.device) >= dropped

    def _mask(
        self, steps: tuple[int, ...], features: int, dropped: float
    ) -> Float[Tensor, "*time batch features"] | None:
        """A segment's mask, one for all its time steps or one for each of ``steps``; None if
        nothing is dropped."""
        if not dropped:
            return None
        return self._kept(steps, features, dropped).to(self.embedding.dtype) / (1 - dropped)

    def _agree(self, vocabulary: int) -> None:
        """Notes which vocabulary the weights belong to. Raises DataError if it is another one."""
        own = int(self.vocabulary)
        if own not in (0, vocabulary):
            raise DataError(
                f"the vocabulary of '{self.settings.data}' is not the one that the weights were "
                f"trained with ({vocabulary:015x}, not {own:015x})\n"
                "  restore the text that they were trained on, or train again under another"
                " --results"
            )
        self.vocabulary.fill_(vocabulary)
        self._seen = True


def _forget_what_was_seen(task: nn.Module, _: object) -> None:
    assert isinstance(task, PtbLstm)
    task._seen = False
