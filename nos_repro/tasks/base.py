"""The contract between a task and the loop that trains it.

A Task is a Lightning module and its TaskData a Lightning data module, so both run under a plain
`pl.Trainer`; the suite's own loop (`experiments/training.py`) calls the same methods. A task knows
no update rules: it gets a maker of optimizers.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nos_repro.errors import ConfigError
from nos_repro.optim.kinds import mark_kinds
from nos_repro.registry import require_methods
from nos_repro.tasks.facts.base import TaskFacts
from nos_repro.tasks.facts.base import require as require

OptimizerMaker: TypeAlias = Callable[
    [Iterable[tuple[str, Parameter]]], tuple[Optimizer, LRScheduler]
]
"""It gets a model's named parameters, in the form that `torch.optim` takes too."""


def require_even(batch: int, world: int) -> None:
    """Raises ConfigError unless ``world`` processes can share a batch in equal parts: only then is
    the mean of their gradients the gradient of the whole batch."""
    where = f"a multiple of the {world} processes that share a batch"
    require(batch % world == 0, "batch_size", where, batch)


def slice_batch(batch: Any, rank: int, world: int) -> Any:
    """``batch`` with every tensor cut to the rank-th of ``world`` slices along its first dimension.

    Raises ConfigError if the slices are not equal.
    """

    def cut(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0:
            return tensor
        require_even(len(tensor), world)
        size = len(tensor) // world
        return tensor[rank * size : (rank + 1) * size]

    return apply_to_collection(batch, Tensor, cut)


class TaskData(pl.LightningDataModule):
    """Batches in a reproducible order.

    `train_batches` is a pure function of (seed, epoch), and batch k, with its augmentation, one of
    (seed, epoch, k): a run that resumes inside an epoch asks for `start=k`.

    Raises ConfigError if a subclass lacks one of the abstract methods.
    """

    def __new__(cls, *given: Any, **named: Any) -> TaskData:
        require_methods(f"data {cls.__module__}", cls, TaskData)
        return super().__new__(cls)

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch of training."""

    @abstractmethod
    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of one epoch, from batch `start` on."""

    @abstractmethod
    def val_batches(self) -> Iterator[Any]:
        """The held-out examples in a fixed order; the last batch may be short."""

    @abstractmethod
    def test_batches(self) -> Iterator[Any]:
        """The test examples in a fixed order; the last batch may be short."""

    def train_share(self, epoch: int, start: int, rank: int, world: int) -> Iterator[Any]:
        """`train_batches` as process `rank` of `world` sees them: its `slice_batch` of each.

        Override it if examples are expensive to make, so that a process makes only its own, or if a
        batch's first dimension is not the examples.
        """
        batches = self.train_batches(epoch, start)
        return batches if world == 1 else (slice_batch(batch, rank, world) for batch in batches)

    def evaluation_share(
        self, part: Literal["val", "test"], rank: int, world: int
    ) -> Iterator[Any]:
        """Every `world`-th batch of a part from the `rank`-th on: together, the whole part."""
        batches = self.val_batches() if part == "val" else self.test_batches()
        return itertools.islice(batches, rank, None, world)

    def reside(self, device: torch.device) -> None:
        """Keeps the examples in the memory of ``device``, and makes the batches there: the same
        ones. Data that cannot (any, unless it overrides this) stays where it is."""

    def prepare(self) -> None:
        """Does the heavy work once (downloads, decodes). Raises DataError and ConfigError."""

    def prepare_data(self) -> None:
        self.prepare()

    def train_dataloader(self) -> Iterable[Any]:
        return _Loader(self._trainer_batches, self.steps_per_epoch)

    def val_dataloader(self) -> Iterable[Any]:
        return _Loader(self.val_batches)

    def test_dataloader(self) -> Iterable[Any]:
        return _Loader(self.test_batches)

    def _trainer_batches(self) -> Iterator[Any]:
        return self.train_batches(self.trainer.current_epoch if self.trainer else 0)


class _Loader:
    """What Lightning needs from a loader: an iterator per pass, and the length if it is known."""

    def __init__(self, batches: Callable[[], Iterator[Any]], length: int | None = None) -> None:
        self.batches = batches
        self.length = length

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("the number of batches is not known in advance")
        return self.length


class Task(pl.LightningModule, TaskFacts):
    """A model, its loss and its metrics, with the facts about it (`TaskFacts`)."""

    def __init__(self, settings: Any, make_optimizer: OptimizerMaker | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.make_optimizer = make_optimizer
        self._sums: dict[str, float] = {}

    @classmethod
    @abstractmethod
    def make_data(cls, settings: Any, *, data_dir: Path, seed: int) -> TaskData:
        """The data of a trial; nothing heavy happens before `prepare` or the first batch."""

    @abstractmethod
    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """The loss of a batch: a mean over its examples, so that equal slices' losses average to
        it."""

    def shown_loss(self, loss: Tensor, batch: Any) -> Tensor:
        """What curves and tables show of a batch's training loss: override it if the loss has
        another unit than that of `metrics`."""
        return loss

    @abstractmethod
    def evaluation_sums(self, batch: Any) -> dict[str, Tensor]:
        """Sums over a batch, "count" included; sums of batches add up to the whole set's."""

    @staticmethod
    @abstractmethod
    def metrics(sums: dict[str, float]) -> dict[str, float]:
        """The values of `measures`, by their names, for a whole set from its sums."""

    def shards(self) -> Iterable[nn.Module]:
        """The modules whose weights sharded training (`device.shard`) gathers one by one, innermost
        first: a module's are whole only while it is called, those of no module during a whole
        training step. Without any the task cannot be sharded."""
        return ()

    def output_layers(self) -> Iterable[nn.Module] | None:
        """The modules that make the outputs: an optimizer's settings call their weights `heads`.
        None: the last one that has a weight, is trained, and is no embedding."""
        return None

    def configure_optimizers(self) -> Any:
        if self.make_optimizer is None:
            raise ConfigError(f"{type(self).__name__} was built without a maker of optimizers")
        mark_kinds(self, self.output_layers())
        optimizer, schedule = self.make_optimizer(self.named_parameters())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def validation_step(self, batch: Any, batch_idx: int = 0) -> None:
        self._add(self.evaluation_sums(batch))

    def test_step(self, batch: Any, batch_idx: int = 0) -> None:
        self._add(self.evaluation_sums(batch))

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def _add(self, sums: dict[str, Tensor]) -> None:
        for key, value in sums.items():
            self._sums[key] = self._sums.get(key, 0.0) + float(value)

    def _log_metrics(self, part: str) -> None:
        measured = self.metrics(self._sums)
        self._sums = {}
        self.log_dict({f"{part}_{key}": value for key, value in measured.items()})


@runtime_checkable
class Translator(Protocol):
    """A task whose trained model translates: the verb `translate` works with it."""

    def translate_lines(self, lines: Sequence[str], data: TaskData, where: str) -> list[str]:
        """The lines in the other language. DataErrors name ``where`` the lines come from."""


@runtime_checkable
class LanguageModel(Protocol):
    """A task whose trained model continues a text: the verb `generate` works with it."""

    def continue_text(
        self, text: str, data: TaskData, words: int, *, temperature: float, seed: int
    ) -> str:
        """The text and the next ``words`` words, sampled with ``seed``; the likeliest words at
        temperature 0."""
