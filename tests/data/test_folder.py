"""An image folder is read whole, or refused with the names of what is wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nos_repro.data.folder import FolderLayout, read, scan
from nos_repro.errors import DataError

LAYOUT = FolderLayout(("bird", "cat"), {"train": 4, "test": 2})


@pytest.fixture
def root(tmp_path: Path, make_images) -> Path:
    make_images(tmp_path / "set", LAYOUT.classes, LAYOUT.images_per_class)
    return tmp_path / "set"


def test_every_pixel_and_label_is_read_in_sorted_order(tmp_path: Path, make_images) -> None:
    written = make_images(tmp_path, LAYOUT.classes, LAYOUT.images_per_class)
    files = scan(tmp_path, LAYOUT)["train"]
    part = read(tmp_path, files, 32)
    assert [name for name, _ in files] == sorted(n for n in written if n.startswith("train"))
    assert part.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    for place, (name, _) in enumerate(files):
        assert np.array_equal(part.images[place].numpy(), written[name])


def test_hidden_files_do_not_count(root: Path) -> None:
    (root / "train" / ".DS_Store").write_text("")
    (root / "train" / "cat" / ".hidden").write_text("")
    assert len(scan(root, LAYOUT)["train"]) == 8


def test_a_missing_class_is_named(root: Path) -> None:
    shutil.rmtree(root / "train" / "cat")
    with pytest.raises(DataError, match="missing: cat"):
        scan(root, LAYOUT)


def test_a_foreign_class_is_named(root: Path) -> None:
    (root / "test" / "zebra").mkdir()
    with pytest.raises(DataError, match="not expected: zebra"):
        scan(root, LAYOUT)


def test_a_missing_part_is_named(root: Path) -> None:
    shutil.rmtree(root / "test")
    with pytest.raises(DataError, match=r"no folder .*test"):
        scan(root, LAYOUT)


def test_a_missing_image_is_half_a_data_set(root: Path) -> None:
    (root / "train" / "bird" / "0002.png").unlink()
    with pytest.raises(DataError, match=r"train/bird must hold 4 images, found 3"):
        scan(root, LAYOUT)


def test_all_truncated_and_foreign_files_are_named_at_once(root: Path) -> None:
    train = root / "train"
    jpeg = train / "cat" / "0001.png"
    Image.effect_noise((32, 32), 90).convert("RGB").save(jpeg, format="JPEG")
    jpeg.write_bytes(jpeg.read_bytes()[:-200])
    (train / "cat" / "0002.png").write_text("no image")
    (train / "cat" / "0003.png").write_bytes(b"")
    png = train / "bird" / "0000.png"
    png.write_bytes(png.read_bytes()[:600])
    Image.new("RGB", (31, 32)).save(train / "bird" / "0001.png")
    with pytest.raises(DataError) as refused:
        read(root, scan(root, LAYOUT)["train"], 32)
    message = str(refused.value)
    assert "5 of 8 files" in message
    for name in ("cat/0001", "cat/0002", "cat/0003", "bird/0000", "bird/0001"):
        assert f"train/{name}.png" in message
    assert "31x32 pixels, not 32x32" in message


def test_many_bad_files_are_counted(root: Path) -> None:
    for file in (root / "train").rglob("*.png"):
        file.write_text("no image")
    with pytest.raises(DataError, match="and 3 more"):
        read(root, scan(root, LAYOUT)["train"], 32)
