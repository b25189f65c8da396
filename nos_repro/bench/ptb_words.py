"""Training the language model of Table 5 at the paper's size, against a bare `nn.LSTM`.

The bare model has the same shapes and parameters, torch's own modules throughout, and no dropout;
the budget of 0.9x limits the cost of dropout with masks shared over time. Both take whole training
steps (clipped gradient norm, SGD) with one thread on random words; the layer alone is timed too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.launch.local import start_worker, worker_context
from nos_repro.tasks.facts.ptb_lstm import PtbLstmSettings
from nos_repro.tasks.ptb_lstm import PtbLstm, Segment
from nos_repro.tasks.recurrence import LstmState, Weights, lstm

BUDGET = 0.9
ROUNDS = 10
EVALUATED = 1024


class Bare(nn.Module):
    """Embedding, LSTM, projection, tied softmax. torch's LSTM has two biases per gate."""

    def __init__(self, settings: PtbLstmSettings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(settings.words, settings.embedding)
        self.lstm = nn.LSTM(settings.embedding, settings.hidden)
        self.projection = nn.Linear(settings.hidden, settings.embedding, bias=False)
        self.softmax = nn.Linear(settings.embedding, settings.words)
        self.softmax.weight = self.embedding.weight
        self.state: tuple[Tensor, Tensor] | None = None

    def training_step(self, segment: Segment) -> Tensor:
        words = segment.words
        outputs, (hidden, cell) = self.lstm(self.embedding(words[:-1]), self.state)
        self.state = hidden.detach(), cell.detach()
        logits = self.softmax(self.projection(outputs)).flatten(0, 1)
        loss = F.cross_entropy(logits, words[1:].flatten(), reduction="sum")
        return loss / words.shape[1]


@BENCHMARKS.register("ptb-words")
def ptb_words() -> list[Measurement]:
    """Measured as in training: in a worker process with one thread that keeps freed memory."""
    with ProcessPoolExecutor(
        1, mp_context=worker_context(), initializer=start_worker, initargs=(0, [], 1)
    ) as worker:
        return worker.submit(_measure).result()


def _measure() -> list[Measurement]:
    """Words per second and their ratio: the step, the layer alone; then evaluation at batch 1."""
    settings = PtbLstmSettings()
    words = settings.batch_size * settings.time_steps
    segment = _segment(settings, settings.time_steps, settings.batch_size)
    task, bare = PtbLstm(settings), Bare(settings)
    steps = interleave(
        {"ours": _training(task, segment), "bare": _training(bare, segment)}, rounds=ROUNDS
    )
    layers = interleave(_layers(settings), rounds=ROUNDS)
    text = _segment(settings, EVALUATED, 1)
    task.eval()
    read = interleave({"evaluation": lambda: task.evaluation_sums(text)}, rounds=3)
    return [
        Measurement("training, ours with dropout", Ratio.rate(steps["ours"], words, "words/s")),
        Measurement("training, bare without", Ratio.rate(steps["bare"], words, "words/s")),
        Measurement("training, ours over bare", _speed(steps), at_least=BUDGET),
        Measurement("layer alone, ours with a mask over nn.LSTM", _speed(layers), at_least=BUDGET),
        Measurement("evaluation, batch 1", Ratio.rate(read["evaluation"], EVALUATED, "words/s")),
    ]


def _speed(seconds: dict[str, list[float]]) -> Ratio:
    return Ratio.of([b / a for a, b in zip(seconds["ours"], seconds["bare"], strict=True)])


def _segment(settings: PtbLstmSettings, length: int, batch: int) -> Segment:
    words = torch.randint(0, settings.words, (length + 1, batch))
    return Segment(words, torch.tensor(False), torch.tensor(1))


def _training(model: PtbLstm | Bare, segment: Segment) -> Callable[[], None]:
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1, fused=True)

    def step() -> None:
        loss = model.training_step(segment)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()

    return step


def _layers(settings: PtbLstmSettings) -> dict[str, Callable[[], None]]:
    """Forward and backward of the layer, including its inputs' gradient."""
    size, batch = settings.hidden, settings.batch_size
    weights, bare = Weights(settings.embedding, size), nn.LSTM(settings.embedding, size)
    inputs = torch.randn(settings.time_steps, batch, settings.embedding, requires_grad=True)
    ahead = torch.randn(settings.time_steps, batch, size)
    zero = torch.zeros(batch, size)
    mask = (torch.rand(batch, size) >= settings.state_dropout) / (1 - settings.state_dropout)

    def ours() -> None:
        outputs, _ = lstm(inputs, LstmState(zero, zero), weights, mask)
        torch.autograd.backward(outputs, ahead)

    def theirs() -> None:
        torch.autograd.backward(bare(inputs)[0], ahead)

    return {"ours": ours, "bare": theirs}
