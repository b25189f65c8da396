"""CIFAR-10's augmentation on one core: one gather per batch, against torchvision image by image."""

from __future__ import annotations

import itertools
from concurrent.futures import ProcessPoolExecutor

import torch
from torchvision.transforms import v2

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.data.batches import Normalise, cut, draw_crops, epoch_order
from nos_repro.data.cifar10 import MEAN, STD
from nos_repro.launch.local import start_worker, worker_context

IMAGES, BATCH = 50_000, 128
OUR_BATCHES = 20


@BENCHMARKS.register("augmentation")
def augmentation() -> list[Measurement]:
    """Measured as in training: in a worker process with one thread that keeps freed memory."""
    context = worker_context()
    with ProcessPoolExecutor(
        1, mp_context=context, initializer=start_worker, initargs=(0, [], 1)
    ) as worker:
        return worker.submit(_measure).result()


def _measure() -> list[Measurement]:
    """Both take shuffled images, as many and as large as CIFAR-10's, and mirror, crop and normalise
    them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 32, 32, 3), dtype=torch.uint8, generator=generator)
    order = epoch_order(IMAGES, seed=0, epoch=0)
    normalise = Normalise(MEAN, STD, 32)
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([x / 255 for x in MEAN], [x / 255 for x in STD]),
        ]
    )
    batches = itertools.cycle(torch.split(order, BATCH)[:-1])

    def ours() -> None:
        for k, chosen in enumerate(itertools.islice(batches, OUR_BATCHES)):
            normalise(cut(images, chosen, draw_crops(BATCH, 0, 0, k)))

    def torchvisions() -> None:
        torch.stack([transform(images[i].permute(2, 0, 1)) for i in next(batches).tolist()])

    seconds = interleave({"ours": ours, "torchvision": torchvisions}, rounds=15)
    ours_rate = [OUR_BATCHES * BATCH / s for s in seconds["ours"]]
    their_rate = [BATCH / s for s in seconds["torchvision"]]
    speedup = [a / b for a, b in zip(ours_rate, their_rate, strict=True)]
    return [
        Measurement("one gather per batch", Ratio.of(ours_rate, "images/s"), at_least=60_000),
        Measurement("torchvision, image by image", Ratio.of(their_rate, "images/s")),
        Measurement("one gather over torchvision", Ratio.of(speedup)),
    ]
