"""The perceptron of the table of rules: its pixels, its network, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nos_repro.data.digits import ARRAYS
from nos_repro.errors import ConfigError
from nos_repro.tasks.facts.mlp import MLPSettings
from nos_repro.tasks.mlp import MLP

HERE = Path("unused")


def all_training_images(settings: MLPSettings) -> tuple[torch.Tensor, torch.Tensor]:
    data = MLP.make_data(settings, data_dir=HERE, seed=0)
    batches = [*data.train_batches(0), *data.val_batches()]
    return torch.cat([images for images, _ in batches]), torch.cat([y for _, y in batches])


def test_the_pixels_are_the_scans_own_up_to_one_scale_and_shift() -> None:
    images, labels = all_training_images(MLPSettings(batch_size=1, validation_images=300))
    ours = (images * images.std() + images.mean()).flatten(1)
    with np.load(ARRAYS) as arrays:  # scikit-learn's, as tests/data/test_images.py shows
        theirs = torch.tensor(arrays["values"]).float()
        targets = torch.tensor(arrays["labels"])
    theirs = (theirs - theirs.mean()) / theirs.std()
    near = torch.cdist(ours, theirs).min(1)
    assert near.values.mean() < 0.5  # the mean and deviation are those of the training images
    assert (targets[near.indices] == labels).all()
    assert images.mean().abs() < 1e-6
    assert images.std() == pytest.approx(1, abs=1e-6)


def test_the_network_is_two_layers_with_rectified_units_between() -> None:
    task = MLP(MLPSettings(hidden=5))
    images, _ = all_training_images(MLPSettings())
    first, of_first, second, of_second = (p.detach().numpy() for p in task.parameters())
    hidden = np.maximum(images.flatten(1).numpy() @ first.T + of_first, 0)
    assert first.shape == (5, 64)
    theirs = hidden @ second.T + of_second
    assert np.allclose(task(images).detach().numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"side": 7}, "task.side must be a divisor of the images' 32 pixels, got 7"),
        ({"hidden": 0}, "task.hidden must be at least 1, got 0"),
        ({"augment": True}, "task.augment must be false"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MLPSettings(**changes)
