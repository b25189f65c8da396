"""Training batches of ImageNet at 224, on one core, against torchvision's default pipeline.

Torchvision's is the one in its own examples: ImageFolder, which decodes with Pillow, then
RandomResizedCrop, RandomHorizontalFlip, ColorJitter and ToTensor, batched by a DataLoader. Both
process the same thousand photographs, one per class; ours gives bytes, theirs gives floats.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.data import pictures
from nos_repro.data.imagenet import ImageTree, find_images, train_batches
from nos_repro.data.paths import data_folder
from nos_repro.data.views import JITTER
from nos_repro.errors import DataError
from nos_repro.launch.local import start_worker, worker_context

IMAGES, SIZE, BATCH, ROUNDS = "imagenet-sample", 224, 32, 11
STRONG = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
"""The usual jitter with torchvision, measured besides the recipe's."""


@BENCHMARKS.register("imagenet-loader")
def imagenet_loader() -> list[Measurement]:
    """Measured as in training: in a worker process with one thread that keeps freed memory."""
    try:
        images = find_images(IMAGES, data_folder()).val
    except DataError as error:
        print(f"not measured: {error}")
        return []
    context = worker_context()
    with ProcessPoolExecutor(
        1, mp_context=context, initializer=start_worker, initargs=(0, [], 1)
    ) as worker:
        return worker.submit(_measure, images).result()


def _measure(images: ImageTree) -> list[Measurement]:
    """A batch of 32 each, in turns; epochs follow one another, so that every batch is new."""
    decoder = "Pillow" if pictures.simplejpeg is None else "simplejpeg"
    subjects = {
        "ours": _batch_of(_ours(images, JITTER)),
        "theirs": _batch_of(_theirs(images, JITTER)),
        "ours, strong": _batch_of(_ours(images, STRONG)),
        "theirs, strong": _batch_of(_theirs(images, STRONG)),
    }
    seconds = interleave(subjects, rounds=ROUNDS, warmup=2)
    pictures.simplejpeg = None  # this process belongs to the benchmark alone
    alone = interleave({name: subjects[name] for name in ("ours", "theirs")}, rounds=ROUNDS)
    return [
        Measurement(f"ours, decoded by {decoder}", Ratio.rate(seconds["ours"], BATCH, "images/s")),
        Measurement("torchvision", Ratio.rate(seconds["theirs"], BATCH, "images/s")),
        Measurement(
            "ours over torchvision", Ratio.between(seconds, "theirs", "ours"), at_least=1.5
        ),
        Measurement(
            "the same, brightness, contrast and saturation at 0.4",
            Ratio.between(seconds, "theirs, strong", "ours, strong"),
        ),
        Measurement("the same, decoded by Pillow", Ratio.between(alone, "theirs", "ours")),
    ]


def _batch_of(batches: Iterator[Any]) -> Callable[[], object]:
    return lambda: next(batches)


def _ours(images: ImageTree, jitter: Mapping[str, float]) -> Iterator[Any]:
    for epoch in itertools.count():
        yield from train_batches(
            images, size=SIZE, batch_size=BATCH, seed=0, epoch=epoch, jitter=jitter
        )


def _theirs(images: ImageTree, jitter: Mapping[str, float]) -> Iterator[Any]:
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(**jitter),
            transforms.ToTensor(),
        ]
    )
    loader = DataLoader(
        ImageFolder(str(images.folder), transform), BATCH, shuffle=True, drop_last=True
    )
    while True:
        yield from loader
