"""An image set: horizontal and vertical stripes.

task: {name: convnet, data: my_package.stripes}
"""

from pathlib import Path

import torch
from torch import Tensor

from nos_repro.data import IMAGES
from nos_repro.data.images import ImageSet, Labelled, channel_statistics


@IMAGES.register("stripes", classes=2, size=16, validation_images=40)
def read_stripes(data_dir: Path) -> ImageSet:
    """Reads the files of a real set from its folder below ``data_dir``; these are drawn."""
    train, test = _draw(240, seed=0), _draw(80, seed=1)
    return ImageSet(train, test, *channel_statistics(train.images))


def _draw(count: int, seed: int) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    labels: Tensor = torch.arange(count) % 2
    images = torch.randint(0, 100, (count, 16, 16, 3), generator=generator)
    images[labels == 0, ::4] += 100
    images[labels == 1, :, ::4] += 100
    return Labelled(images.to(torch.uint8), labels)
