"""A perceptron with one hidden layer on small grey images.

*Departure*: no paper trains it. It is the cheap task of the table of rules (NOS-Bench): a child of
`digits` takes less than a tenth of a second, and orders rules much as the papers' ConvNet does.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nos_repro.data.batches import Crops, sent
from nos_repro.data.images import IMAGES, Labelled
from nos_repro.tasks.base import TaskData
from nos_repro.tasks.classification import ImageBatch, ImageData, ImageTask
from nos_repro.tasks.facts.images import ImageSettings
from nos_repro.tasks.facts.mlp import MLPFacts, MLPSettings
from nos_repro.tasks.registry import TASKS


class GreyData(ImageData):
    """Image batches whose images are `side` x `side` grey pixels, averaged once per process."""

    settings: MLPSettings

    @functools.cached_property
    def _pixels(self) -> tuple[Tensor, ...]:
        return grey_pixels(self.settings.data, self.data_dir, self.settings.side)

    def reside(self, device: torch.device) -> None:
        super().reside(device)
        self._pixels = tuple(part.to(device) for part in self._pixels)

    def _batch(self, part: Labelled, chosen: torch.Tensor, crops: Crops | None) -> ImageBatch:
        if self._device is not None:
            chosen, _ = sent(chosen, None, self._device)
        which = 0 if part is self._parts[0] else 1
        return self._pixels[which].index_select(0, chosen), part.labels.index_select(0, chosen)


@functools.cache
def grey_pixels(
    data: str, data_dir: Path, side: int
) -> tuple[Float[Tensor, "train 1 side side"], Float[Tensor, "test 1 side side"]]:
    """The set's training and test images as grey pixels with mean 0 and deviation 1 over the
    training images. Raises DataError."""
    images = IMAGES.find(data).read(data_dir)
    parts = [_averaged(part.images, side) for part in (images.train, images.test)]
    std, mean = torch.std_mean(parts[0])
    train, test = ((part - mean) / std for part in parts)
    return train, test


def _averaged(images: Tensor, side: int) -> Float[Tensor, "images 1 side side"]:
    block = images.shape[1] // side
    blocks = images.view(len(images), 1, side, block, side, block, 3)
    return blocks.double().mean((3, 5, 6)).float()


@TASKS.register("mlp")
class MLP(MLPFacts, ImageTask):
    """A linear layer, ReLU, and a linear layer."""

    def make_model(self, classes: int, size: int) -> nn.Module:
        side, hidden = self.settings.side, self.settings.hidden
        return nn.Sequential(
            nn.Flatten(), nn.Linear(side * side, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    @classmethod
    def make_data(cls, settings: ImageSettings, *, data_dir: Path, seed: int) -> TaskData:
        return GreyData(settings, data_dir=data_dir, seed=seed)
