"""The perceptron of the table of rules: its pixels, its network, and what it refuses."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from nos_repro.errors import ConfigError
from nos_repro.tasks.facts.mlp import MLPSettings
from nos_repro.tasks.mlp import MLP

HERE = Path("unused")


def all_training_images(settings: MLPSettings) -> tuple[torch.Tensor, torch.Tensor]:
    data = MLP.make_data(settings, data_dir=HERE, seed=0)
    batches = [*data.train_batches(0), *data.val_batches()]
    return torch.cat([images for images, _ in batches]), torch.cat([y for _, y in batches])


def test_the_pixels_are_scikit_learn_s_own_up_to_one_scale_and_shift() -> None:
    images, labels = all_training_images(MLPSettings(batch_size=1, validation_images=300))
    original = load_digits()
    ours = (images * images.std() + images.mean()).flatten(1)
    theirs = torch.tensor(original.data).float()
    theirs = (theirs - theirs.mean()) / theirs.std()
    near = torch.cdist(ours, theirs).min(1)
    assert near.values.mean() < 0.5  # the mean and deviation are those of the training images
    assert (torch.tensor(original.target)[near.indices] == labels).all()
    assert images.mean().abs() < 1e-6
    assert images.std() == pytest.approx(1, abs=1e-6)


def test_the_network_is_that_of_scikit_learn_with_these_weights() -> None:
    task = MLP(MLPSettings(hidden=5))
    images, labels = all_training_images(MLPSettings())
    theirs = MLPClassifier((5,), max_iter=1)
    with pytest.warns(Warning, match="iterations"):
        theirs.fit(images.flatten(1).numpy(), labels.numpy())
    weights = [p.detach().numpy() for p in task.parameters()]
    theirs.coefs_ = [weights[0].T, weights[2].T]
    theirs.intercepts_ = [weights[1], weights[3]]
    ours = task(images).softmax(1).detach()
    assert torch.allclose(ours, torch.tensor(theirs.predict_proba(images.flatten(1).numpy())))


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
