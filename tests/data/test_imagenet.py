"""Batches of photographs: complete, the same with any processes, resumable within an epoch."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nos_repro.data.imagenet import (
    ImageTree,
    LabelledPixels,
    eval_batches,
    find_images,
    train_batches,
)
from nos_repro.data.paths import data_folder
from nos_repro.data.workers import in_order
from nos_repro.errors import DataError
from tests.processes import gone

# torch's advice on a machine of fewer cores
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SIZE, BATCH, IMAGES = 24, 8, 36
HERE = data_folder()  # before a test gets a cache of its own


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 training and 6 validation JPEGs of many sizes, each with a different brightness."""
    root = tmp_path_factory.mktemp("data") / "tiny"
    generator = np.random.default_rng(0)
    for part, count in (("train", IMAGES), ("val", 6)):
        for i in range(count):
            file = root / part / f"class{i % 3}" / f"{i:03}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            height, width = generator.integers(30, 90, 2)
            noise = generator.integers(0, 40, (height, width, 3))
            Image.fromarray((6 * i + noise).clip(0, 255).astype(np.uint8)).save(file)
    return root


@pytest.fixture
def images(root: Path) -> ImageTree:
    return find_images("tiny", root.parent).train


def epoch(images: ImageTree, **changes: int) -> list[LabelledPixels]:
    settings = {"size": SIZE, "batch_size": BATCH, "seed": 5, "epoch": 2, **changes}
    return list(train_batches(images, **settings))


def same(ours: list[LabelledPixels], theirs: list[LabelledPixels]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(x, y) and torch.equal(i, j) for (x, i), (y, j) in zip(ours, theirs, strict=True)
    )


def test_an_epoch_is_whole_batches_of_different_images(images: ImageTree) -> None:
    """With hardly any jitter or crop, an image's brightness identifies it."""
    batches = list(train_batches(images, size=SIZE, batch_size=BATCH, seed=0, epoch=0, jitter={}))
    assert [tuple(x.shape) for x, _ in batches] == [(BATCH, 3, SIZE, SIZE)] * (IMAGES // BATCH)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in batches)
    seen = torch.cat([x.float().mean((1, 2, 3)) for x, _ in batches])
    which = ((seen - 19.5) / 6).round().int()
    assert len(set(which.tolist())) == IMAGES // BATCH * BATCH
    assert torch.cat([labels for _, labels in batches]).tolist() == (which % 3).tolist()


def test_a_run_resumed_inside_an_epoch_sees_exactly_what_was_left(images: ImageTree) -> None:
    whole = epoch(images)
    for start in range(len(whole) + 1):
        assert same(epoch(images, start=start), whole[start:])


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_bit(images: ImageTree, workers: int, start: int) -> None:
    assert same(epoch(images, start=start, workers=workers), epoch(images, start=start))


def test_threads_change_no_bit(images: ImageTree) -> None:
    threads = torch.get_num_threads()
    first = epoch(images, size=200)
    torch.set_num_threads(4 if threads != 4 else 2)
    try:
        assert same(epoch(images, size=200), first)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_that_share_a_batch_have_it_together(images: ImageTree, world: int) -> None:
    shares = [epoch(images, rank=rank, world=world, start=1) for rank in range(world)]
    together = [
        (torch.cat([x for x, _ in parts]), torch.cat([labels for _, labels in parts]))
        for parts in zip(*shares, strict=True)
    ]
    assert same(together, epoch(images, start=1))


def test_several_workers_make_a_large_batch(
    images: ImageTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = epoch(images, batch_size=17)
    monkeypatch.setattr("nos_repro.data.imagenet.PIECE", 5)
    assert same(epoch(images, batch_size=17), whole)
    assert same(epoch(images, batch_size=17, workers=2), whole)


def test_seeds_and_epochs_differ_in_order_and_in_views(images: ImageTree) -> None:
    first = epoch(images)
    for changes in ({"seed": 6}, {"epoch": 3}):
        other = epoch(images, **changes)
        assert not any(torch.equal(x, y) for (x, _), (y, _) in zip(first, other, strict=True))


def test_an_evaluation_shows_every_image_once_in_order(root: Path) -> None:
    val = find_images("tiny", root.parent).val
    batches = list(eval_batches(val, size=SIZE, batch_size=4))
    assert [len(x) for x, _ in batches] == [4, 2]
    assert torch.equal(torch.cat([labels for _, labels in batches]), val.labels)
    assert same(list(eval_batches(val, size=SIZE, batch_size=4, workers=2)), batches)


def test_the_trials_own_random_numbers_are_not_touched(images: ImageTree) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    epoch(images, workers=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_an_error_without_a_workers_traceback(
    root: Path, tmp_path: Path, workers: int
) -> None:
    for i in range(20):
        (tmp_path / "mine" / "val" / "only").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "mine" / "val" / "only" / f"{i:02}.jpg")
    (tmp_path / "mine" / "val" / "only" / "13.jpg").write_text("no image")
    batches = eval_batches(
        find_images("mine", tmp_path).val, size=SIZE, batch_size=5, workers=workers
    )
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(DataError, match=r"13\.jpg cannot be used: not an image\n") as refused:
        next(batches)
    assert "Traceback" not in str(refused.value)


def pid_of_worker(job: int) -> int:
    time.sleep(0.02)
    return os.getpid()


linux = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc are Linux's")


@linux
def test_signals_to_all_processes_are_handled_by_the_trial_alone() -> None:
    """Handlers set by the trial are not called in its workers, and the workers are not ended."""
    heard: list[int] = []
    words = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
    before = {word: signal.signal(word, lambda number, _: heard.append(number)) for word in words}
    try:
        results: Iterator[int] = in_order(pid_of_worker, range(40), 2)
        workers = {next(results), next(results)}
        # SIGTERM comes from a stranger, as it does from a cluster's daemon
        sends = "; ".join(f"kill -{int(word)} $pid" for word in (*words, signal.SIGTERM))
        pids = " ".join(str(pid) for pid in workers)
        subprocess.run(["sh", "-c", f"for pid in {pids}; do {sends}; done"], check=True)
        assert len(list(results)) == 38
        assert heard == []
        assert gone(workers)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()).isdisjoint({*words, signal.SIGTERM})
    finally:
        for word, handler in before.items():
            signal.signal(word, handler)


@linux
def test_a_consumer_that_stops_early_stops_the_workers() -> None:
    results = in_order(pid_of_worker, range(1000), 2)
    workers = {next(results) for _ in range(4)}
    results.close()
    assert gone(workers)


PARENT = """
from nos_repro.data.workers import in_order
from os import getpid
results = in_order(lambda job: getpid(), range(100000), 2)
print(*{next(results) for _ in range(6)}, flush=True)
"""


@linux
def test_a_program_may_end_with_half_of_its_results_unread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT], capture_output=True, text=True, timeout=60, check=True
    )
    workers = {int(pid) for pid in done.stdout.split()}
    assert workers
    assert gone(workers)
    assert done.stderr == ""


def ask_for_ever(told: Any) -> None:
    for pid in in_order(pid_of_worker, range(100_000), 2):
        told.send(pid)


@linux
def test_no_worker_outlives_a_parent_that_is_killed() -> None:
    context = multiprocessing.get_context("fork")
    hears, tells = context.Pipe(duplex=False)
    parent = context.Process(target=ask_for_ever, args=(tells,))
    parent.start()
    try:
        workers = {hears.recv() for _ in range(6)}
    finally:
        parent.kill()
        parent.join()
    assert gone(workers)


@pytest.mark.parametrize(
    ("name", "part", "classes", "count"),
    [
        ("imagenet64", "train", 21, 5250),
        ("imagenet64", "val", 21, 1050),
        ("imagenet-sample", "val", 1000, 1000),
    ],
)
def test_the_real_images_are_all_read(name: str, part: str, classes: int, count: int) -> None:
    if not (HERE / name).is_dir():
        pytest.skip(f"no {name} in the data folder")
    trees = find_images(name, HERE)
    images = trees.train if part == "train" else trees.val
    assert (len(trees.classes), len(images)) == (classes, count)
    assert images.labels.bincount().tolist() == [count // classes] * classes
    some = ImageTree(images.folder, images.names[::25], images.labels[::25])
    seen = torch.cat([x for x, _ in eval_batches(some, size=64, batch_size=50)])
    assert 90 < seen.float().mean() < 135
    assert seen.float().std((1, 2, 3)).min() > 3
