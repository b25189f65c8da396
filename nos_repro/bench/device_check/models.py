"""The papers' models with synthetic batches of the real shapes: no data is needed to time them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.settings_file import find_config
from nos_repro.experiments.training import Run
from nos_repro.experiments.trial import Trial
from nos_repro.tasks import classification, nasnet_data
from nos_repro.tasks.base import TaskData
from nos_repro.tasks.gnmt import SentenceBatch, find_places
from nos_repro.tasks.nasnet_data import PhotographBatch
from nos_repro.tasks.ptb_lstm import Segment

Make = Callable[[Any, torch.Generator, int], Any]
"""From a task's settings, what draws, and a number of examples to a batch."""
PIECES = 27
"""Word pieces of a sentence, END included: about WMT14's mean."""
BEGIN, END, FIRST = 2, 3, 4
"""Of a vocabulary of word pieces, and the first number that stands for a piece."""


def image_batch(settings: Any, draw: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
    """Images as CIFAR-10's after their normalisation."""
    images = torch.randn(size, 3, 32, 32, generator=draw)
    return images, torch.randint(10, (size,), generator=draw)


def photograph_batch(settings: Any, draw: torch.Generator, size: int) -> PhotographBatch:
    shape = size, 3, settings.size, settings.size
    pixels = torch.randint(256, shape, generator=draw, dtype=torch.uint8)
    labels = torch.randint(settings.classes, (size,), generator=draw)
    return PhotographBatch(pixels, labels, torch.tensor(1))


def text_batch(settings: Any, draw: torch.Generator, size: int) -> Segment:
    words = torch.randint(settings.words, (settings.time_steps + 1, size), generator=draw)
    return Segment(words, torch.tensor(False), torch.tensor(1))


def sentence_batch(settings: Any, draw: torch.Generator, size: int) -> SentenceBatch:
    def sentences(*first: int) -> Tensor:
        shape = size, PIECES - 1
        pieces = torch.randint(FIRST, settings.vocabulary, shape, generator=draw)
        ends = torch.full((size, 1), END)
        return torch.cat([*(torch.full((size, 1), n) for n in first), pieces, ends], dim=1)

    target = sentences(BEGIN)
    length = torch.tensor(float(PIECES))
    places = find_places(target)
    return SentenceBatch(sentences(), target, length, torch.tensor(1), places=places)


@dataclass(frozen=True)
class CheckedModel:
    """A row of a study at the scale `paper`. ``examples`` are those of an epoch that does not count
    its steps, ``evaluated`` those after an epoch, in batches of ``evaluation_batch``; 0 where an
    evaluation is not timed. ``tiny`` are settings that make it small, ``hows`` those to
    compare."""

    name: str
    config: str
    row: str
    make: Make
    examples: int
    evaluated: int
    evaluation_batch: int
    tiny: tuple[str, ...]
    hows: dict[str, tuple[str, ...]]

    def study(self, how: str, *, tiny: bool) -> Study:
        words = (*self.hows[how], *(self.tiny if tiny else ()))
        config = find_config(self.config)
        return load_study(config, scale="paper", overrides=words, rows=[self.row], trying=False)


AS_IT_IS, BF16 = "as configured", ("task.precision=bf16",)
TF32, COMPILED = ("device.tf32=true",), ("device.compile=true",)
# fmt: off
IMAGE_HOWS = {
    AS_IT_IS: (), "channels-last": ("device.channels_last=true",), "TF32": TF32, "bf16": BF16,
}
COMPILED_TOO = {**IMAGE_HOWS, "bf16, compiled": (*BF16, *COMPILED)}
TEXT_HOWS = {AS_IT_IS: (), "TF32": TF32, "bf16": BF16}
TEN = ("task.replicas_at_once=10",)
MODELS = (
    CheckedModel("small ConvNet", "icml_figure5", "Optimizer 1", image_batch, 45_000, 15_000,
                 classification.EVALUATION_BATCH, ("task.head=global", "task.batch_size=8"),
                 IMAGE_HOWS),
    CheckedModel("WRN-40-4", "table2", "PowerSign (cosine)", image_batch, 45_000, 15_000,
                 classification.EVALUATION_BATCH,
                 ("task.depth=10", "task.width=1", "task.batch_size=8"), COMPILED_TOO),
    CheckedModel("PTB LSTM", "table5", "PowerSign", text_batch, 0, 0, 0,
                 ("task.hidden=32", "task.embedding=16", "task.batch_size=4"), TEXT_HOWS),
    CheckedModel("GNMT", "table4", "PowerSign", sentence_batch, 4_524_000, 0, 0,
                 ("task.layers=2", "task.width=32", "task.vocabulary=64", "task.batch_size=8"),
                 TEXT_HOWS),
    CheckedModel("NASNet-A mobile", "table3", "PowerSign-cd", photograph_batch, 0, 50_000,
                 nasnet_data.EVALUATION_BATCH,
                 ("task.size=16", "task.stem=cifar", "task.cells=1", "task.filters=24",
                  "task.auxiliary=0", "task.batch_size=4", "task.replicas=2"),
                 {AS_IT_IS: (), "10 replicas at once": TEN, "10 at once, TF32": (*TEN, *TF32),
                  "10 at once, bf16": (*TEN, *BF16)}),
)
# fmt: on


class SyntheticData(TaskData):
    """One batch again and again, in epochs of the real length."""

    def __init__(self, batch: Any, steps_per_epoch: int) -> None:
        super().__init__()
        self.batch, self._steps = batch, steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        return self._steps

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        return itertools.repeat(self.batch, self._steps - start)

    def val_batches(self) -> Iterator[Any]:
        return iter(())

    def test_batches(self) -> Iterator[Any]:
        return iter(())


def steps_of(model: CheckedModel, settings: Any) -> int:
    """The steps of an epoch."""
    steps: int | None = getattr(settings, "steps_per_epoch", None)
    return steps or max(1, model.examples // settings.batch_size)


def synthetic(model: CheckedModel, settings: Any) -> SyntheticData:
    """The data of a model with these settings of its task."""
    batch = model.make(settings, torch.Generator().manual_seed(0), settings.batch_size)
    return SyntheticData(batch, steps_of(model, settings))


def trial_of(study: Study) -> Trial:
    """The first trial of the study's first row."""
    row = next(iter(study.rows.values()))
    return sweep_trial(study, row, points(study, row)[0])


def run_of(study: Study, data: TaskData, device: str) -> Run:
    """The run of that trial at its first step."""
    conditions = Conditions(Path(), device=device, device_settings=study.device)
    run = build(trial_of(study), conditions, data=data)
    run.task.train()
    return run
