"""Splits and batches of an image task, on a data set whose images encode their own numbers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nos_repro.data.images import IMAGES, ImageSet, Labelled
from nos_repro.errors import ConfigError
from nos_repro.tasks.classification import ImageBatch, ImageData, ImageTask
from nos_repro.tasks.convnet import ConvNet
from nos_repro.tasks.facts.convnet import ConvNetSettings
from nos_repro.tasks.facts.images import ImageSettings

TRAIN, TEST = 1000, 600


@pytest.fixture(autouse=True)
def numbered() -> None:
    """Flat images that hold their own numbers in base 256, in 10 classes."""

    def part(count: int) -> Labelled:
        number = torch.arange(count)
        channels = torch.stack([number // 256, number % 256, 0 * number], dim=1).to(torch.uint8)
        return Labelled(channels[:, None, None].expand(-1, 32, 32, -1).contiguous(), number % 10)

    @IMAGES.register("numbered", classes=10, validation_images=100)
    def read(data_dir: Path) -> ImageSet:
        return ImageSet(part(TRAIN), part(TEST), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def data(seed: int = 0, **settings: object) -> ImageData:
    settings = {"data": "numbered", **settings}
    return ImageData(ImageSettings(**settings), data_dir=Path("unused"), seed=seed)


def numbers(batches: Iterator[ImageBatch]) -> list[int]:
    return [
        int(image[0, 0, 0]) * 256 + int(image[1, 0, 0]) for images, _ in batches for image in images
    ]


def test_validation_and_training_images_are_disjoint_and_together_all() -> None:
    held_out, trained = numbers(data().val_batches()), numbers(data().train_batches(0))
    assert sorted(held_out + trained) == list(range(TRAIN))
    assert len(held_out) == 100


def test_the_split_is_stratified_and_the_same_for_every_seed() -> None:
    assert numbers(data(seed=1).val_batches()) == numbers(data(seed=2).val_batches())
    classes = torch.cat([labels for _, labels in data().val_batches()])
    assert classes.bincount().tolist() == [10] * 10


def test_a_subset_is_fixed_balanced_and_off_the_validation_images() -> None:
    subsets = [
        sorted(numbers(data(seed=seed, train_images=300).train_batches(seed))) for seed in (1, 2)
    ]
    assert subsets[0] == subsets[1]
    assert torch.tensor(subsets[0]).remainder(10).bincount().tolist() == [30] * 10
    assert not set(subsets[0]) & set(numbers(data().val_batches()))


def test_an_incomplete_batch_is_left_out() -> None:
    part = data(batch_size=128)
    sizes = [len(labels) for _, labels in part.train_batches(0)]
    assert sizes == [128] * 7
    assert part.steps_per_epoch == 7


def test_test_images_come_in_order_the_last_batch_short() -> None:
    assert numbers(data().test_batches()) == list(range(TEST))
    assert [len(labels) for _, labels in data().test_batches()] == [500, 100]


def test_labels_stay_with_their_images() -> None:
    for images, labels in data(augment=True).train_batches(2):
        number = images[:, 0, 0, 0] * 256 + images[:, 1, 0, 0]
        assert torch.equal(number.long() % 10, labels)


def test_batches_are_float32_images_and_int64_labels() -> None:
    images, labels = next(data().train_batches(0))
    assert (images.shape, images.dtype) == ((100, 3, 32, 32), torch.float32)
    assert (labels.shape, labels.dtype) == ((100,), torch.int64)


def test_evaluation_changes_when_the_weights_do_and_not_otherwise() -> None:
    task = ConvNet(ConvNetSettings(data="numbered")).eval()
    batch = next(data().val_batches())
    first = task.evaluation_sums(batch)
    assert first == task.evaluation_sums(batch)
    assert ImageTask.metrics({"loss": 5.0, "correct": 3.0, "count": 4.0}) == {
        "loss": 1.25,
        "accuracy": 75.0,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_images": 901}, r"task\.train_images must be at most 900 for 'numbered'"),
        ({"validation_images": 5000}, r"task\.validation_images must be at most 900 for"),
    ],
)
def test_more_images_than_there_are_is_an_error(given: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data(**given).prepare()


def test_a_negative_seed_is_an_error() -> None:
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        data(seed=-1)
