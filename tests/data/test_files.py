"""What other systems leave among the files of a data set, and files that cannot be read."""

import importlib
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nos_repro.data import CORPORA, IMAGES
from nos_repro.data.files import belongs, read_file, refusals_named
from nos_repro.data.folder import FolderLayout, read, scan
from nos_repro.data.imagenet import eval_batches, find_images
from nos_repro.data.parallel import find_parallel_text
from nos_repro.data.pictures import show
from nos_repro.data.views import central_view
from nos_repro.errors import DataError

LAYOUT = FolderLayout(("bird", "cat"), {"train": 4, "test": 2})
LEFT = ("Thumbs.db", "@eaDir/0000.png/SYNOPHOTO_THUMB.jpg", "__MACOSX/._0000.png", ".DS_Store")
NOBODY = 65534


def bomb() -> bytes:
    """The head of a PNG of 30,000 x 30,000 pixels, which Pillow believes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    size = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 90_001))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + pixels + chunk(b"IEND", b"")


@pytest.fixture
def shut() -> Iterator[Path]:
    """A data folder, `set/`, of somebody who is not root: to root no file is unreadable."""
    IMAGES.names(), CORPORA.names()  # he may not be able to import them
    importlib.import_module("torchvision.datasets")
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


def tree(root: Path, *more: bytes) -> Path:
    """`set/{train,val}/{ant,bee}/0.png`, and files."""
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (root / "set" / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / "set" / part / name / "0.png")
    for name in more:
        file = root / "set" / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(file, format="PNG")
    return root / "set"


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "thumbs.DB", "desktop.ini", ".DS_Store"])
def test_what_a_system_leaves_behind_does_not_belong(name: str) -> None:
    assert not belongs(name)
    assert belongs(f"a{name}")


@pytest.mark.parametrize("left", LEFT)
def test_what_a_nas_or_a_mac_leaves_is_no_class_and_no_image(tmp_path: Path, left: str) -> None:
    root = tree(tmp_path, *(f"{place}{left}".encode() for place in ("train/", "train/ant/")))
    trees = find_images("set", tmp_path)
    assert trees.classes == ("ant", "bee")
    assert [trees.train.path(i) for i in range(2)] == [
        str(root / "train" / name / "0.png") for name in trees.classes
    ]


@pytest.mark.parametrize("left", LEFT)
def test_nor_is_it_one_of_cifar10(tmp_path: Path, make_images, left: str) -> None:
    make_images(tmp_path, LAYOUT.classes, LAYOUT.images_per_class)
    for place in ("train", "train/cat"):
        (tmp_path / place / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place / left).write_text("")
    assert len(scan(tmp_path, LAYOUT)["train"]) == 8


@pytest.mark.parametrize("folder", ["train", "train/ant", "train/ant/more"])
def test_a_folder_that_cannot_be_read_is_named(shut: Path, folder: str) -> None:
    """Not skipped: it may hold images."""
    where = tree(shut, b"train/ant/more/1.png") / folder
    where.chmod(0)
    try:
        with pytest.raises(DataError, match=f"{folder}: Permission denied\n  make it readable"):
            find_images("set", shut)
    finally:
        where.chmod(0o700)


def test_text_and_images_that_cannot_be_read_are_named(shut: Path) -> None:
    for name in ("ptb", "cifar10", "text"):
        (shut / name).mkdir()
        (shut / name).chmod(0)
    try:
        with pytest.raises(DataError, match=r"ptb/ptb.train.txt: Permission denied"):
            CORPORA.find("ptb").read(shut)
        with pytest.raises(DataError, match=r"cifar10/train: Permission denied"):
            IMAGES.find("cifar10").read(shut)
        with pytest.raises(DataError, match=r"text/train\.en: Permission denied"):
            find_parallel_text("text", ("en", "de"), shut)
    finally:
        for name in ("ptb", "cifar10", "text"):
            (shut / name).chmod(0o700)


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000])
def test_a_name_that_no_file_can_have_is_one_error(tmp_path: Path, name: str) -> None:
    for find in (find_images, lambda name, root: find_parallel_text(name, ("en", "de"), root)):
        with pytest.raises(DataError, match="File name too long"):
            find(name, tmp_path)


def test_a_link_that_leads_back_is_named(tmp_path: Path) -> None:
    """torchvision's ImageFolder follows it 40 times."""
    root = tree(tmp_path, b"train/ant/more/1.png")
    (root / "train" / "ant" / "more" / "up").symlink_to(root / "train" / "ant")
    with pytest.raises(DataError, match="more/up is a link to a folder that holds it"):
        find_images("set", tmp_path)


def test_two_folders_that_link_to_each_other_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for one, other in (("ant", "bee"), ("bee", "ant")):
        (root / "train" / one / "other").symlink_to(root / "train" / other)
    with pytest.raises(DataError, match="ant/other/other is a link to a folder that holds it"):
        find_images("set", tmp_path)


def test_a_link_to_another_folder_is_followed(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "train" / "ant" / "more").symlink_to(root / "val" / "ant")
    assert len(find_images("set", tmp_path).train) == 3


def test_names_that_are_not_utf_8_are_names_like_others(tmp_path: Path) -> None:
    tree(tmp_path, b"train/caf\xe9/\xe9.png", b"val/caf\xe9/\xe9.png")
    trees = find_images("set", tmp_path)
    assert trees.classes == ("ant", "bee", os.fsdecode(b"caf\xe9"))
    assert 0 <= trees.fingerprint < 2**48
    ((_, labels),) = eval_batches(trees.val, size=4, batch_size=3)
    assert labels.tolist() == [0, 1, 2]


def test_cifar10_in_a_folder_that_is_not_utf_8(tmp_path: Path, make_images) -> None:
    from nos_repro.data.decoded import decoded_files

    root = tmp_path / os.fsdecode(b"donn\xe9es")
    make_images(root, LAYOUT.classes, LAYOUT.images_per_class)
    (root / "train" / "cat" / "0000.png").rename(root / "train" / "cat" / os.fsdecode(b"\xe9.png"))
    files = scan(root, LAYOUT)["train"]
    arrays = decoded_files(root, "set", root, [name for name, _ in files], lambda: {
        "images": read(root, files, 32).images
    })  # fmt: skip
    assert len(arrays["images"]) == 8


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, LAYOUT.classes, LAYOUT.images_per_class)
    pipe = tmp_path / "train" / "cat" / "0001.png"
    pipe.unlink()
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"0001\.png: not a regular file"):
        read(tmp_path, scan(tmp_path, LAYOUT)["train"], 32)
    with pytest.raises(DataError, match=r"0001\.png cannot be used: not a regular file"):
        show(str(pipe), central_view, torch.empty(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(OSError, match="not a regular file"):
        read_file("/dev/zero")


def test_a_small_file_with_a_huge_image_is_named(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, LAYOUT.classes, LAYOUT.images_per_class)
    file = tmp_path / "train" / "cat" / "0001.png"
    file.write_bytes(bomb())
    with pytest.raises(DataError, match=r"cat/0001\.png: .*900000000 pixels"):
        read(tmp_path, scan(tmp_path, LAYOUT)["train"], 32)
    with pytest.raises(DataError, match=r"0001\.png cannot be used: .*900000000 pixels"):
        show(str(file), central_view, torch.empty(3, 8, 8, dtype=torch.uint8))


def test_a_jpeg_of_a_huge_image_is_named_too(tmp_path: Path) -> None:
    """Its head alone: a baseline JPEG of 60,000 x 60,000."""
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    at = data.index(b"\xff\xc0") + 5
    (tmp_path / "a.jpg").write_bytes(
        data[:at] + struct.pack(">HH", 60_000, 60_000) + data[at + 4 :]
    )
    with pytest.raises(DataError, match=r"a\.jpg cannot be used: .*3600000000 pixels"):
        show(str(tmp_path / "a.jpg"), central_view, torch.empty(3, 8, 8, dtype=torch.uint8))


def test_an_error_without_a_file_names_where_it_was_looked_for() -> None:
    with (
        pytest.raises(DataError, match=r"^/data: No space left on device"),
        refusals_named("/data"),
    ):
        raise OSError(28, "No space left on device")


class TestGreyscaleOfManyBits:
    """Pillow's own `convert("RGB")` clips it at 255, so that nearly all of it is white."""

    @pytest.fixture
    def ramp(self) -> np.ndarray:
        return np.linspace(0, 65_535, 32 * 32).astype(np.uint16).reshape(32, 32)

    @pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.pgm"])
    def test_the_upper_8_of_16_are_taken(self, tmp_path: Path, ramp, name: str) -> None:
        """As libpng's `png_set_strip_16` does."""
        Image.fromarray(ramp).save(tmp_path / name)
        target = torch.empty(3, 32, 32, dtype=torch.uint8)
        whole = read(tmp_path, [(name, 0)], 32).images[0].numpy()
        assert np.array_equal(whole, np.repeat((ramp // 256)[..., None], 3, axis=2))
        show(str(tmp_path / name), central_view, target)
        assert abs(target.float().mean() - 127.5) < 1

    @pytest.mark.parametrize("kind", [np.int32, np.float32])
    def test_32_are_refused_by_name(self, tmp_path: Path, ramp, kind: type) -> None:
        """Which number is white is not in the file."""
        Image.fromarray(ramp.astype(kind)).save(tmp_path / "a.tiff")
        with pytest.raises(DataError, match=r"a\.tiff: greyscale of 32 bits \(mode [IF]\)"):
            read(tmp_path, [("a.tiff", 0)], 32)
        with pytest.raises(DataError, match=r"a\.tiff cannot be used: greyscale of 32 bits"):
            show(str(tmp_path / "a.tiff"), central_view, torch.empty(3, 8, 8, dtype=torch.uint8))
