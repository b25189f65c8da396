"""The images that NASNet trains on: a tree of photographs, or an embedded set held in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from nos_repro.data import imagenet
from nos_repro.data.batches import Crops, cut, draw_crops, epoch_order, sent
from nos_repro.data.cores import cores_per_gpu
from nos_repro.data.images import IMAGES, Dataset, Labelled, balanced_order
from nos_repro.errors import ConfigError
from nos_repro.tasks.base import TaskData
from nos_repro.tasks.facts.base import require

EVALUATION_BATCH = 100
"""Images per evaluation batch. It is not a setting: only the speed depends on it."""

Part = Literal["val", "test"]
Pixels = tuple[UInt8[Tensor, "batch 3 size size"], Int64[Tensor, " batch"]]


class PhotographBatch(NamedTuple):
    """Images in 0..255 and their classes; `classes` is the fingerprint of the classes' names."""

    images: UInt8[Tensor, "batch 3 size size"]
    labels: Int64[Tensor, " batch"]
    classes: Int64[Tensor, ""]


class Photographs:
    """A tree of class folders. The part not trained on is validation; there is no test part."""

    def __init__(self, name: str, data_dir: Path, size: int, batch_size: int, seed: int) -> None:
        self._trees = imagenet.find_images(name, data_dir)
        self._size, self._batch_size, self._seed = size, batch_size, seed
        self.classes = len(self._trees.classes)
        self.fingerprint = self._trees.fingerprint
        self.images = len(self._trees.train)

    def train(self, epoch: int, start: int, rank: int, world: int) -> Iterator[Pixels]:
        yield from imagenet.train_batches(
            self._trees.train,
            size=self._size,
            batch_size=self._batch_size,
            seed=self._seed,
            epoch=epoch,
            start=start,
            rank=rank,
            world=world,
            workers=decoders(),
        )

    def part(self, part: Part) -> Iterator[Pixels]:
        if part == "val":
            yield from imagenet.eval_batches(
                self._trees.val,
                size=self._size,
                batch_size=EVALUATION_BATCH,
                workers=decoders(),
            )


class InMemory:
    """A registered set (digits, CIFAR-10): mirrored, cropped, with validation images held out."""

    def __init__(self, dataset: Dataset, data_dir: Path, batch_size: int, seed: int) -> None:
        images = dataset.read(data_dir)
        order = balanced_order(images.train.labels)
        self._batch_size, self._seed = batch_size, seed
        self._training, self._test = images.train, images.test
        self._held_out = order[: dataset.validation_images]
        self._order = order[dataset.validation_images :]
        self.classes, self.images = dataset.classes, len(self._order)
        self.fingerprint = dataset.classes
        self._device: torch.device | None = None

    def reside(self, device: torch.device) -> None:
        """Keeps the images in the memory of a device, and cuts the batches there."""
        if device != self._device:
            for name in ("_training", "_test"):
                images, labels = getattr(self, name)
                setattr(self, name, Labelled(images.to(device), labels.to(device)))
            self._device = device

    def train(self, epoch: int, start: int, rank: int, world: int) -> Iterator[Pixels]:
        size, share = self._batch_size, self._batch_size // world
        order = self._order[epoch_order(self.images, self._seed, epoch)]
        for k in range(start, self.images // size):
            own = slice(rank * share, (rank + 1) * share)
            chosen = order[k * size : (k + 1) * size][own]
            whole = draw_crops(size, self._seed, epoch, k)
            crops: Crops | None = Crops(*(draws[own] for draws in whole))
            if self._device is not None:
                chosen, crops = sent(chosen, crops, self._device)
            assert crops is not None
            pixels = cut(self._training.images, chosen, crops)
            yield pixels.permute(0, 3, 1, 2), self._training.labels[chosen]

    def part(self, part: Part) -> Iterator[Pixels]:
        if part == "val":
            labelled, places = self._training, self._held_out
        else:
            labelled, places = self._test, torch.arange(len(self._test.labels))
        for chosen in torch.split(places, EVALUATION_BATCH):
            if self._device is not None:
                chosen, _ = sent(chosen, None, self._device)
            yield labelled.images[chosen].permute(0, 3, 1, 2), labelled.labels[chosen]


def decoders() -> int:
    """How many processes decode in advance: if a GPU trains, one per core of its share but the one
    that feeds the GPU, and at least one; on a CPU none, since the cores train."""
    if not torch.cuda.is_available():
        return 0
    return max(cores_per_gpu(torch.cuda.device_count()) - 1, 1)


class Images(TaskData):
    """Batches of ``batch_size`` images, shared out as whole replicas.

    An epoch is one pass over the training images, without those that do not fill a batch; or it is
    ``steps_per_epoch`` batches of pass after pass, where a pass may begin inside an epoch.
    """

    def __init__(
        self,
        name: str,
        *,
        classes: int,
        size: int,
        batch_size: int,
        replicas: int,
        steps_per_epoch: int | None,
        data_dir: Path,
        seed: int,
    ) -> None:
        super().__init__()
        require(seed >= 0, "seed", "at least 0", seed)
        self.set, self.classes, self.size = name, classes, size
        self.batch_size, self.replicas = batch_size, replicas
        self.given_steps, self.data_dir, self.seed = steps_per_epoch, data_dir, seed

    def prepare(self) -> None:
        self._source  # noqa: B018  (the access finds and checks it)

    @cached_property
    def _source(self) -> Photographs | InMemory:
        """Raises DataError, and ConfigError if the settings do not fit the set."""
        source: Photographs | InMemory
        if self.set in IMAGES:
            dataset = IMAGES.find(self.set)
            require(self.size == dataset.size, "size", f"{dataset.size} for '{self.set}'",
                    self.size)  # fmt: skip
            source = InMemory(dataset, self.data_dir, self.batch_size, self.seed)
        else:
            settings = (self.size, self.batch_size, self.seed)
            source = Photographs(self.set, self.data_dir, *settings)
        if source.classes != self.classes:
            raise ConfigError(
                f"task.classes must be {source.classes:,}, the number that '{self.set}' has in"
                f" {self.data_dir}, got {self.classes:,}"
            )
        require(source.images >= self.batch_size, "batch_size",
                f"at most {source.images:,}, the training images of '{self.set}'",
                f"{self.batch_size:,}")  # fmt: skip
        return source

    def reside(self, device: torch.device) -> None:
        if isinstance(self._source, InMemory):
            self._source.reside(device)

    @property
    def _steps_a_pass(self) -> int:
        return self._source.images // self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        return self.given_steps or self._steps_a_pass

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[PhotographBatch]:
        return self.train_share(epoch, start, 0, 1)

    def train_share(
        self, epoch: int, start: int, rank: int, world: int
    ) -> Iterator[PhotographBatch]:
        if self.replicas % world:
            fit = [str(n) for n in range(1, self.replicas + 1) if self.replicas % n == 0]
            raise ConfigError(
                f"{world} processes cannot share {self.replicas} replicas of"
                f" {self.batch_size // self.replicas} images\n"
                f"  processes x passes must be task.replicas: take one of {' '.join(fit)}"
                " processes, or change task.replicas (which changes batch norm)"
            )
        return self._share(epoch, start, rank, world)

    def _share(self, epoch: int, start: int, rank: int, world: int) -> Iterator[PhotographBatch]:
        step, last = (epoch * self.steps_per_epoch + k for k in (start, self.steps_per_epoch))
        while step < last:
            walk, done = divmod(step, self._steps_a_pass)
            rest = self._source.train(walk, done, rank, world)
            for pixels in itertools.islice(rest, last - step):
                yield self._batch(pixels)
                step += 1

    def val_batches(self) -> Iterator[PhotographBatch]:
        return map(self._batch, self._source.part("val"))

    def test_batches(self) -> Iterator[PhotographBatch]:
        return map(self._batch, self._source.part("test"))

    def _batch(self, pixels: Pixels) -> PhotographBatch:
        return PhotographBatch(*pixels, torch.tensor(self._source.fingerprint))
