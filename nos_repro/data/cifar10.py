"""CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 in ten classes.

The data folder may hold it as torchvision leaves it (`cifar-10-batches-py/`, or the archive that it
downloads, `cifar-10-python.tar.gz`) or as images (`cifar10/{train,test}/<class>/*`). They are tried
in that order: the former are the original pixels, the latter often JPEG. An incomplete form is an
error, even if another one is complete.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity, download_url, extract_archive

from nos_repro.data import folder
from nos_repro.data.decoded import decoded_files
from nos_repro.data.images import IMAGES, ImageSet, Labelled
from nos_repro.errors import DataError

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
LAYOUT = folder.FolderLayout(CLASSES, {"train": 5000, "test": 1000})
MEAN = (125.3, 123.0, 113.9)
STD = (63.0, 62.1, 66.7)
"""Zagoruyko & Komodakis' constants, from the 50,000 original training images."""

SILENCE_SECONDS = 30
"""How long a download may be silent before it is abandoned."""


@IMAGES.register("cifar10", classes=10, validation_images=5000)
def read_cifar10(data_dir: Path) -> ImageSet:
    """CIFAR-10, decoded once and memory-mapped. Raises DataError.

    *Departure*: the paper does not list its validation images. Ours are a fixed stratified 5,000,
    500 per class (`balanced_order`); the images' order, and so the split, differs between the two
    forms of the data.
    """
    batches, archive = data_dir / CIFAR10.base_folder, data_dir / CIFAR10.filename
    images = data_dir / "cifar10"
    if not (batches.is_dir() or archive.is_file() or images.is_dir()):
        _download(data_dir)
    if batches.is_dir() or archive.is_file():
        arrays = _from_torchvision(data_dir, batches, archive)
    else:
        arrays = _from_images(data_dir, images)
    return ImageSet(
        Labelled(arrays["train_images"], arrays["train_labels"]),
        Labelled(arrays["test_images"], arrays["test_labels"]),
        MEAN,
        STD,
    )


def _from_images(data_dir: Path, root: Path) -> dict[str, Tensor]:
    files = folder.scan(root, LAYOUT)
    names = [name for part in files.values() for name, _ in part]

    def decode() -> dict[str, Tensor]:
        parts = {part: folder.read(root, named, LAYOUT.size) for part, named in files.items()}
        return _named(parts["train"], parts["test"])

    return decoded_files(data_dir, "cifar10-images", root, names, decode)


def _from_torchvision(data_dir: Path, batches: Path, archive: Path) -> dict[str, Tensor]:
    root, names = data_dir, [archive.name]
    if batches.is_dir():
        root, names = batches, [name for name, _ in _parts()]
        missing = [name for name in names if not (batches / name).is_file()]
        if missing:
            raise DataError(
                f"{batches} lacks {' '.join(missing)}\n"
                f"  unpack {CIFAR10.filename} again, or remove the folder to have it downloaded"
            )

    def decode() -> dict[str, Tensor]:
        if batches.is_dir():
            return _read_batches(data_dir)
        if not check_integrity(str(archive), CIFAR10.tgz_md5):
            raise DataError(
                f"{archive} is truncated or not CIFAR-10 (MD5 is not {CIFAR10.tgz_md5})\n"
                "  remove it to have it downloaded again"
            )
        with tempfile.TemporaryDirectory() as unpacked:
            extract_archive(str(archive), unpacked)
            return _read_batches(Path(unpacked))

    return decoded_files(data_dir, "cifar10", root, names, decode)


def _parts() -> list[tuple[str, str]]:
    """(file name, MD5) of everything that torchvision reads."""
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    return [(str(name), str(md5)) for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, meta]]


def _read_batches(root: Path) -> dict[str, Tensor]:
    batches = root / CIFAR10.base_folder
    bad = [name for name, md5 in _parts() if not check_integrity(str(batches / name), md5)]
    if bad:
        raise DataError(
            f"truncated or foreign files in {batches}: {' '.join(bad)}\n"
            f"  unpack {CIFAR10.filename} again"
        )
    parts = [CIFAR10(str(root), train=train) for train in (True, False)]
    return _named(
        *(Labelled(torch.from_numpy(part.data), torch.tensor(part.targets)) for part in parts)
    )


def _named(train: Labelled, test: Labelled) -> dict[str, Tensor]:
    return {
        "train_images": train.images,
        "train_labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
    }


def _download(data_dir: Path) -> None:
    """Downloads the archive from torchvision's address; it appears in the folder only complete."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".download-", dir=data_dir))
        try:
            with _download_timeout():
                download_url(CIFAR10.url, str(new), CIFAR10.filename, CIFAR10.tgz_md5)
            (new / CIFAR10.filename).replace(data_dir / CIFAR10.filename)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise DataError(
            f"no CIFAR-10 in {data_dir}, and downloading it failed ({error})\n"
            f"  put one of these there: {CIFAR10.base_folder}/ or {CIFAR10.filename} (from "
            f"{CIFAR10.url}), or images as cifar10/train/<class>/* and cifar10/test/<class>/*;\n"
            "  or name another folder with --data DIR or NOS_REPRO_DATA"
        ) from error


@contextmanager
def _download_timeout() -> Iterator[None]:
    """torchvision's download has no timeout, so this sets the socket default."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
