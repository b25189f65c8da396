"""The embedded image set: scikit-learn's handwritten digits as 32 x 32 RGB images.

1,797 real images, 10 classes, no download; `digits.txt` tells their source and licence.
*Departure*: no paper trains on them; they let every image study run on a fresh machine (scale
`smoke`), and their numbers mean nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nos_repro.data.images import (
    IMAGES,
    ImageSet,
    Labelled,
    balanced_order,
    channel_statistics,
)

ARRAYS = Path(__file__).with_name("digits.npz")
TEST_IMAGES = 297


@IMAGES.register("digits", classes=10, validation_images=300)
def read_digits(data_dir: Path) -> ImageSet:
    """The digits: 297 test images, 1,500 for training and validation, both stratified.

    Each of the 8 x 8 values 0..16 becomes a block of 4 x 4 equal pixels in three equal channels.
    """
    with np.load(ARRAYS) as arrays:
        values, labels = arrays["values"], arrays["labels"]
    small = torch.from_numpy(values).double().view(-1, 8, 8)
    large = small.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    images = (large * 255 / 16).round().to(torch.uint8)[..., None].repeat(1, 1, 1, 3)
    classes = torch.from_numpy(labels).long()
    order = balanced_order(classes)
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    mean, std = channel_statistics(images[train])
    return ImageSet(
        Labelled(images[train], classes[train]), Labelled(images[test], classes[test]), mean, std
    )
