"""Image classification: what the small ConvNet and the Wide ResNet share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from nos_repro.data.batches import Crops, Normalise, cut, draw_crops, epoch_order, sent
from nos_repro.data.images import IMAGES, ImageSet, Labelled, balanced_order
from nos_repro.errors import ConfigError
from nos_repro.tasks.base import OptimizerMaker, Task, TaskData
from nos_repro.tasks.facts.base import require
from nos_repro.tasks.facts.images import ImageFacts, ImageSettings

ImageBatch = tuple[Float[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]

EVALUATION_BATCH = 500
"""Images per evaluation batch. It is not a setting: only the speed depends on it."""


class ImageData(TaskData):
    """Training, validation and test batches of an image set.

    `train_batches` visits a fresh permutation each epoch and leaves out the images that do not fill
    a batch. *Departure*: the papers do not say what happens to them (72 of 45,000 images at batch
    128, different ones each epoch).
    """

    def __init__(self, settings: ImageSettings, *, data_dir: Path, seed: int) -> None:
        super().__init__()
        require(seed >= 0, "seed", "at least 0", seed)
        self.settings = settings
        self.data_dir = data_dir
        self.seed = seed
        self._device: torch.device | None = None

    def reside(self, device: torch.device) -> None:
        if device != self._device:
            train, test = self._images.train, self._images.test
            self._parts = _on(train, device), _on(test, device)
            self._normalise = self._normalise.to(device)
            self._device = device

    def prepare(self) -> None:
        self._split  # noqa: B018  (the access reads the images)

    @cached_property
    def _images(self) -> ImageSet:
        return IMAGES.find(self.settings.data).read(self.data_dir)

    @cached_property
    def _parts(self) -> tuple[Labelled, Labelled]:
        """The training and the test part, where the batches are made."""
        return self._images.train, self._images.test

    @cached_property
    def _split(self) -> tuple[Int64[Tensor, " validation"], Int64[Tensor, " train"]]:
        """The places of the validation and the training images within the set's training part."""
        dataset, settings = IMAGES.find(self.settings.data), self.settings
        order = balanced_order(self._images.train.labels)
        held_out = settings.validation_images
        if held_out is None:
            held_out = dataset.validation_images
        left = len(order) - held_out
        if left < settings.batch_size:
            raise ConfigError(
                f"task.validation_images must be at most {len(order) - settings.batch_size:,} for "
                f"'{settings.data}' ({len(order):,} images, one batch of {settings.batch_size} to "
                f"train on), got {held_out:,}"
            )
        wanted = left if settings.train_images is None else settings.train_images
        require(
            wanted <= left,
            "train_images",
            f"at most {left:,} for '{settings.data}' ({len(order):,} less {held_out:,} held out)",
            f"{wanted:,}",
        )
        return order[:held_out], order[held_out : held_out + wanted]

    @cached_property
    def _normalise(self) -> Normalise:
        size = self._images.train.images.shape[1]
        return Normalise(self._images.mean, self._images.std, size)

    @property
    def steps_per_epoch(self) -> int:
        return len(self._split[1]) // self.settings.batch_size

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        size, train = self.settings.batch_size, self._split[1]
        order = train[epoch_order(len(train), self.seed, epoch)]
        for k in range(start, self.steps_per_epoch):
            crops = draw_crops(size, self.seed, epoch, k) if self.settings.augment else None
            yield self._batch(self._parts[0], order[k * size : (k + 1) * size], crops)

    def val_batches(self) -> Iterator[ImageBatch]:
        return self._in_order(self._parts[0], self._split[0])

    def test_batches(self) -> Iterator[ImageBatch]:
        return self._in_order(self._parts[1], torch.arange(len(self._images.test.labels)))

    def _in_order(self, part: Labelled, places: Int64[Tensor, " places"]) -> Iterator[ImageBatch]:
        for chosen in torch.split(places, EVALUATION_BATCH):
            yield self._batch(part, chosen, None)

    def _batch(
        self, part: Labelled, chosen: Int64[Tensor, " batch"], crops: Crops | None
    ) -> ImageBatch:
        if self._device is not None:
            chosen, crops = sent(chosen, crops, self._device)
        images = part.images[chosen] if crops is None else cut(part.images, chosen, crops)
        return self._normalise(images), part.labels[chosen]


def _on(part: Labelled, device: torch.device) -> Labelled:
    return Labelled(part.images.to(device), part.labels.to(device))


class ImageTask(ImageFacts, Task):
    """A classifier of images trained on cross entropy; a subclass sets `self.model`.

    Memory format and precision are the task's business, declared in its settings: any loop that
    calls the task gets them.
    """

    model: torch.nn.Module

    def __init__(
        self, settings: ImageSettings, make_optimizer: OptimizerMaker | None = None
    ) -> None:
        super().__init__(settings, make_optimizer)
        self.dataset = IMAGES.find(settings.data)
        self.model = self.make_model(self.dataset.classes, self.dataset.size)
        self.memory_format = (
            torch.channels_last if settings.channels_last else torch.contiguous_format
        )
        self.model.to(memory_format=self.memory_format)

    def make_model(self, classes: int, size: int) -> torch.nn.Module:
        """The network for square images of `size` pixels; its weights come from torch's seed."""
        raise NotImplementedError

    @classmethod
    def make_data(cls, settings: ImageSettings, *, data_dir: Path, seed: int) -> TaskData:
        return ImageData(settings, data_dir=data_dir, seed=seed)

    @property
    def channels_last(self) -> bool:
        return bool(self.settings.channels_last)

    @property
    def precision(self) -> str:
        return str(self.settings.precision)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        images = images.contiguous(memory_format=self.memory_format)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits: Tensor = self.model(images)
        return logits.float()

    def training_step(self, batch: ImageBatch, batch_idx: int = 0) -> Float[Tensor, ""]:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def evaluation_sums(self, batch: ImageBatch) -> dict[str, Tensor]:
        images, labels = batch
        logits = self(images)
        return {
            "loss": F.cross_entropy(logits, labels, reduction="sum").detach(),
            "correct": (logits.argmax(dim=1) == labels).sum(),
            "count": torch.tensor(len(labels)),
        }

    @staticmethod
    def metrics(sums: dict[str, float]) -> dict[str, float]:
        """Mean loss in nats, accuracy in percent."""
        count = sums["count"]
        return {"loss": sums["loss"] / count, "accuracy": 100 * sums["correct"] / count}
