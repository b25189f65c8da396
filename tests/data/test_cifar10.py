"""CIFAR-10 in every form that people have: whole, incomplete, damaged, and missing."""

import hashlib
import pickle
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from nos_repro.data import cifar10
from nos_repro.data.folder import FolderLayout
from nos_repro.data.images import ImageSet
from nos_repro.errors import DataError

read: Callable[[Path], ImageSet] = cifar10.read_cifar10
PER_BATCH = 20


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`cifar-10-batches-py` as torchvision leaves it, but small, with matching checksums."""
    root = tmp_path / "data"
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)

    def write(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name: str) -> list[str]:
        pixels = generator.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8)
        return write(name, {"data": pixels, "labels": [i % 10 for i in range(PER_BATCH)]})

    train = [batch(name) for name, _ in CIFAR10.train_list]
    test = [batch(name) for name, _ in CIFAR10.test_list]
    meta = write("batches.meta", {"label_names": list(cifar10.CLASSES)})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta[1]})
    return folder


@pytest.fixture
def archive(batches: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`cifar-10-python.tar.gz`, and nothing else."""
    path = batches.parent / CIFAR10.filename
    with tarfile.open(path, "w:gz") as tar:
        tar.add(batches, CIFAR10.base_folder)
    shutil.rmtree(batches)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def server(archive: Path) -> Iterator[str]:
    """An address on this machine that serves the archive."""
    handler = partial(QuietHandler, directory=str(archive.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/{archive.name}"
        http.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")


def test_torchvisions_files_are_read_as_torchvision_reads_them(batches: Path) -> None:
    ours = read(batches.parent)
    theirs = CIFAR10(str(batches.parent), train=True)
    assert ours.train.images.shape == (5 * PER_BATCH, 32, 32, 3)
    assert np.array_equal(ours.train.images.numpy(), theirs.data)
    assert ours.train.labels.tolist() == theirs.targets
    assert len(ours.test.labels) == PER_BATCH


def test_the_archive_holds_the_same(batches: Path, archive: Path) -> None:
    ours = read(archive.parent)
    assert ours.train.images.shape == (5 * PER_BATCH, 32, 32, 3)
    assert {path.name for path in archive.parent.iterdir()} == {archive.name, ".decoded"}


def test_a_second_look_decodes_nothing(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(batches.parent)
    monkeypatch.delattr(cifar10, "_read_batches")
    assert torch.equal(first.train.images, read(batches.parent).train.images)


def test_a_missing_batch_file_is_named(batches: Path) -> None:
    (batches / "data_batch_3").unlink()
    with pytest.raises(DataError, match="lacks data_batch_3"):
        read(batches.parent)


def test_a_truncated_batch_file_is_named(batches: Path) -> None:
    whole = (batches / "data_batch_2").read_bytes()
    (batches / "data_batch_2").write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"truncated or foreign files in .*: data_batch_2"):
        read(batches.parent)


def test_a_changed_file_is_noticed_after_decoding(batches: Path) -> None:
    read(batches.parent)
    (batches / "test_batch").write_bytes(b"no pickle")
    with pytest.raises(DataError, match="test_batch"):
        read(batches.parent)


def test_a_truncated_archive_is_named(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is truncated"):
        read(archive.parent)


def test_images_in_folders_are_cifar10_too(
    tmp_path: Path, make_images, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"train": 2, "test": 1}
    monkeypatch.setattr(cifar10, "LAYOUT", FolderLayout(cifar10.CLASSES, counts))
    written = make_images(tmp_path / "cifar10", cifar10.CLASSES, counts)
    ours = read(tmp_path)
    assert ours.train.labels.tolist() == [i // 2 for i in range(20)]
    assert np.array_equal(ours.train.images[7].numpy(), written["train/cat/0001.png"])


def test_half_an_image_folder_is_refused_with_its_count(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "cifar10", cifar10.CLASSES, {"train": 2, "test": 1})
    with pytest.raises(DataError, match=r"train/airplane must hold 5,000 images, found 2"):
        read(tmp_path)


def test_missing_data_is_downloaded_whole(
    server: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "url", server)
    empty = tmp_path / "empty"
    assert len(read(empty).train.labels) == 5 * PER_BATCH
    assert {path.name for path in empty.iterdir()} == {archive.name, ".decoded"}


def test_a_download_that_arrives_damaged_leaves_nothing(
    server: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "url", server)
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(DataError, match="downloading it failed"):
        read(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_missing_data_that_cannot_be_downloaded_is_one_error_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError) as refused:
        read(tmp_path / "empty")
    message = str(refused.value)
    for hint in ("cifar-10-batches-py/", "cifar10/train/<class>", "--data DIR", "NOS_REPRO_DATA"):
        assert hint in message
    assert list((tmp_path / "empty").iterdir()) == []
