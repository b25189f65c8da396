"""Class folders in the forms that people have, with torchvision's ImageFolder as the oracle."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from nos_repro.data.imagenet import find_images
from nos_repro.errors import DataError

CLASSES = ("ant", "bee", "cat")
COUNTS = {"train": 4, "val": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree whose files have image names; nothing is decoded while it is listed."""
    for part, count in COUNTS.items():
        for name in CLASSES:
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "set" / part / name / f"{name}_{i}.JPEG").write_bytes(b"")
    return tmp_path / "set"


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as refused:
        find_images(root.name, root.parent)
    return str(refused.value)


def test_a_trees_files_and_labels_are_torchvisions(root: Path) -> None:
    for i, name in enumerate(("5.png", "12.jpg", "Z.JPG", "more/7.jpeg")):
        file = root / "train" / CLASSES[i % 3] / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    trees = find_images("set", root.parent)
    for part, images in (("train", trees.train), ("val", trees.val)):
        theirs = ImageFolder(str(root / part))
        ours = [(images.path(i), int(images.labels[i])) for i in range(len(images))]
        assert ours == theirs.samples
    assert list(trees.classes) == ImageFolder(str(root / "train")).classes


def test_a_large_trees_files_are_those_of_a_plain_walk(tmp_path: Path) -> None:
    suffixes = (".JPEG", ".jpg", ".Png", ".x.webp")
    for place in (
        "train/a",
        "train/a/deep/er",
        "train/b c",
        "train/\u00e9",
        "val/a",
        "val/b c",
        "val/\u00e9",
    ):
        folder = tmp_path / "set" / place
        folder.mkdir(parents=True)
        for number in range(100):
            (folder / f"n{number * 37 % 100}{suffixes[number % 4]}").touch()
    train = find_images("set", tmp_path).train
    root = tmp_path / "set" / "train"
    walked = [
        os.path.relpath(os.path.join(where, file), root)
        for where, _, files in os.walk(root) for file in files
    ]  # fmt: skip
    assert sorted(map(os.fsencode, walked)) == sorted(train.names.tolist())
    classes = sorted(os.listdir(root))
    assert [classes[label] for label in train.labels] == [
        os.fsdecode(name).split(os.sep)[0] for name in train.names.tolist()
    ]
    assert [train.path(image) for image in (0, 299)] == [
        str(root / os.fsdecode(train.names[image])) for image in (0, 299)
    ]


def test_a_set_may_be_anywhere_and_its_other_part_may_be_called_test(root: Path) -> None:
    (root / "val").rename(root / "test")
    trees = find_images(str(root), Path("/nowhere"))
    assert (len(trees.train), len(trees.val)) == (12, 6)
    assert trees.val.path(0).startswith(str(root / "test"))


def test_a_file_name_of_any_language_is_kept(root: Path) -> None:
    (root / "train" / "ant" / "ähre 蟻.jpg").write_bytes(b"")
    assert any("ähre 蟻.jpg" in find_images("set", root.parent).train.path(i) for i in range(5))


def test_hidden_files_and_files_beside_the_classes_do_not_count(root: Path) -> None:
    (root / "train" / ".cache").mkdir()
    (root / "train" / "LICENSE").write_text("")
    (root / "train" / "ant" / ".DS_Store").write_text("")
    assert len(find_images("set", root.parent).train) == 12


def test_the_fingerprint_follows_the_classes_and_nothing_else(root: Path) -> None:
    first = find_images("set", root.parent)
    assert 0 <= first.fingerprint < 2**48
    (root / "train" / "ant" / "more.jpg").write_bytes(b"")
    assert find_images("set", root.parent).fingerprint == first.fingerprint
    for part in COUNTS:
        (root / part / "cat").rename(root / part / "cow")
    assert find_images("set", root.parent).fingerprint != first.fingerprint


def test_one_part_is_enough_if_no_other_is_needed(root: Path) -> None:
    shutil.rmtree(root / "train")
    trees = find_images("set", root.parent)
    assert len(trees.val) == 6
    with pytest.raises(DataError, match=r"set has no train images, only val\n  put them there"):
        _ = trees.train


def test_parts_of_different_classes_are_refused_with_the_difference(root: Path) -> None:
    (root / "val" / "cat").rename(root / "val" / "dog")
    message = refusal(root)
    assert "must have the same classes" in message
    assert "only in the first: cat\n  only in the second: dog" in message


def test_an_empty_class_folder_is_named(root: Path) -> None:
    (root / "train" / "dog").mkdir()
    assert "class folders without an image, in " in refusal(root)
    assert "train: dog\n" in refusal(root)


def test_a_file_whose_name_is_not_an_image_s_is_named(root: Path) -> None:
    (root / "train" / "bee" / "labels.txt").write_text("")
    assert "train: bee/labels.txt\n" in refusal(root)


def test_images_without_class_folders_are_refused(root: Path) -> None:
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    Image.new("RGB", (8, 8)).save(root / "val" / "ILSVRC2012_val_00000001.JPEG")
    assert "val holds no class folders\n  put its images there as val/<class>/*" in refusal(root)


def test_a_missing_set_gets_the_nearest_name_and_what_to_put_where(root: Path) -> None:
    with pytest.raises(DataError) as refused:
        find_images("sett", root.parent)
    message = str(refused.value)
    assert "unknown image set 'sett'\n  did you mean 'set'" in message
    assert "sett/train/<class>/*.JPEG" in message
    assert "--data DIR" in message
    with pytest.raises(DataError, match="no image set 'set' in"):
        find_images("set", root / "empty")


def test_archives_of_imagenet_must_be_unpacked_with_torchvision(tmp_path: Path) -> None:
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "ILSVRC2012_img_train.tar").write_bytes(b"")
    assert "from torchvision.datasets import ImageNet" in refusal(tmp_path / "imagenet")


class TestTorchvisionsImageNet:
    """`meta.bin` as torchvision saves it: names of all classes, and each validation image's class.

    Its own reader is the oracle: ImageNet(root) accepts the trees that ours accepts.
    """

    @pytest.fixture
    def imagenet(self, root: Path) -> Path:
        names = {name: (name.title(),) for name in CLASSES}
        torch.save((names, [name for name in CLASSES for _ in range(2)]), root / "meta.bin")
        return root

    def test_a_whole_tree_is_read(self, imagenet: Path) -> None:
        from torchvision.datasets import ImageNet

        theirs = ImageNet(str(imagenet), split="val")
        ours = find_images("set", imagenet.parent)
        assert [ours.val.path(i) for i in range(6)] == [file for file, _ in theirs.samples]

    def test_half_of_the_classes_are_not_the_set(self, imagenet: Path) -> None:
        for part in COUNTS:
            shutil.rmtree(imagenet / part / "bee")
        message = refusal(imagenet)
        assert "has 2 classes, its meta.bin 3\n  missing: bee; not expected: -" in message

    def test_a_missing_validation_image_is_noticed(self, imagenet: Path) -> None:
        (imagenet / "val" / "cat" / "cat_0.JPEG").unlink()
        assert "holds 5 images, " in refusal(imagenet)

    @pytest.mark.parametrize("content", [b"", b"no archive", b"\x80\x02K\x01."])
    def test_a_damaged_meta_is_named(self, imagenet: Path, content: bytes) -> None:
        (imagenet / "meta.bin").write_bytes(content)
        assert "meta.bin is not torchvision's" in refusal(imagenet)
