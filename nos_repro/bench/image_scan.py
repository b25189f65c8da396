"""Listing the files of a set of ImageNet's size: 1.28 million empty ones in 1,000 classes.

NOS_REPRO_BENCH_IMAGES=200000 makes fewer; the time grows in proportion to them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.data.trees import find_images

IMAGENET, CLASSES = 1_281_167, 1000
SECONDS = 5.0
ROUNDS = 3


@BENCHMARKS.register("image-scan")
def image_scan() -> Iterator[Measurement]:
    """Seconds of processor time to list the files, once the system has their folders in memory."""
    yield from scan(int(os.environ.get("NOS_REPRO_BENCH_IMAGES", IMAGENET)), CLASSES)


def scan(images: int, classes: int) -> Iterator[Measurement]:
    """The measurement for about that many images."""
    with tempfile.TemporaryDirectory() as place:
        for number in range(classes):
            folder = Path(place) / "made" / "train" / f"n{number:08d}"
            folder.mkdir(parents=True)
            for image in range(-(-images // classes)):
                (folder / f"{folder.name}_{image}.JPEG").touch()
        count = len(find_images("made", Path(place)).train)
        find = {"find": lambda: find_images("made", Path(place))}
        seconds = interleave(find, rounds=ROUNDS, clock=time.process_time)["find"]
    budget = SECONDS * count / IMAGENET
    yield Measurement(f"{count:,} files listed", Ratio.of(seconds, "s"), at_most=budget)
