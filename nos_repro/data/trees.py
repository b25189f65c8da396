"""Class folders of images: they are listed, and refused if incomplete; nothing is decoded."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.data.files import belongs, refusals_named
from nos_repro.errors import DataError, unknown
from nos_repro.registry import Registry, is_path, require_call, require_result

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int64
    from torch import Tensor

SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp"),
    *(".pgm", ".tif", ".tiff", ".webp"),
}
"""The suffixes of image files; torchvision's list."""

EVALUATION = ("val", "test")
"""Names of the part that is never trained on, in the order in which they are looked for."""

ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
META = "meta.bin"
"""torchvision's digest of ImageNet's development kit."""

SHOWN = 5
"""Names that an error lists before it counts the rest."""


@dataclass(frozen=True, eq=False)
class ImageTree:
    """The files of one part and their classes, sorted by class and then by name."""

    folder: Path
    names: np.ndarray
    """Bytes, below the folder: 1.3 million Python strings would take 150 MB per process."""
    labels: Int64[Tensor, " images"]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, image: int) -> str:
        return os.path.join(self.folder, os.fsdecode(bytes(self.names[image])))


@dataclass(frozen=True, eq=False)
class ImageTrees:
    """The parts of a set that exist; they have the same classes, sorted by name."""

    root: Path
    classes: tuple[str, ...]
    parts: Mapping[str, ImageTree]

    @property
    def train(self) -> ImageTree:
        """Raises DataError if there is none."""
        return self._part("train")

    @property
    def val(self) -> ImageTree:
        """Raises DataError if there is none."""
        return self._part("val")

    def _part(self, name: str) -> ImageTree:
        if name not in self.parts:
            here = " ".join(self.parts)
            raise DataError(
                f"{self.root} has no {name} images, only {here}\n"
                f"  put them there as {name}/<class>/*.JPEG, the same {len(self.classes):,} classes"
            )
        return self.parts[name]

    @property
    def fingerprint(self) -> int:
        """A number of 48 bits that changes with the classes or their order."""
        names = "\n".join(self.classes).encode(errors="surrogateescape")  # also those not in UTF-8
        digest = hashlib.sha256(names).digest()
        return int.from_bytes(digest[:6], "big")


def _check(name: str, read: Callable[[Path], ImageTrees]) -> None:
    require_call(f"photographs {name}", read, "(data_dir) -> ImageTrees", Path())


PHOTOGRAPHS: Registry[Callable[[Path], ImageTrees]] = Registry(
    "set of photographs", "nos_repro.data", check=_check, key="task.data"
)
"""Sets that are not laid out as class folders, each listed by a function of its own; a set in class
folders is found by its folder's name and needs none.

    @PHOTOGRAPHS.register("flowers")
    def flowers(data_dir): ...
"""


def find_images(name: str, data_dir: Path) -> ImageTrees:
    """The set of that name in the data folder, at that absolute path, or from that module.

    Raises DataError if the set is missing, if a folder cannot be read, if a class folder is empty
    or holds other files than images, or if the parts have different classes.
    """
    with refusals_named(name):
        return _find_images(name, Path(data_dir))


def _find_images(name: str, data_dir: Path) -> ImageTrees:
    root = data_dir / Path(name).expanduser()
    if is_path(name) and not root.exists():
        found = PHOTOGRAPHS.find(name)(data_dir)
        return require_result(f"set of photographs {name}", found, ImageTrees)
    folders = {"train": root / "train", "val": _evaluation(root)}
    parts = {part: _scan(folder) for part, folder in folders.items() if folder.is_dir()}
    if not parts:
        raise DataError(_missing(name, root, data_dir))
    names = {part: classes for part, (classes, _) in parts.items()}
    if len(names) == 2 and names["train"] != names["val"]:
        raise DataError(
            f"{folders['train']} and {folders['val']} must have the same classes\n"
            f"  only in the first: {_some(_less(names['train'], names['val']))}\n"
            f"  only in the second: {_some(_less(names['val'], names['train']))}"
        )
    trees = ImageTrees(
        root, next(iter(names.values())), {part: images for part, (_, images) in parts.items()}
    )
    if (root / META).is_file():
        _check_whole(trees)
    return trees


def _evaluation(root: Path) -> Path:
    found = [root / part for part in EVALUATION if (root / part).is_dir()]
    return found[0] if found else root / EVALUATION[0]


def _scan(folder: Path) -> tuple[tuple[str, ...], ImageTree]:
    """The classes of a part and its files."""
    with os.scandir(folder) as found:
        entries = sorted(entry.name for entry in found if entry.is_dir() and belongs(entry.name))
    if not entries:
        raise DataError(
            f"{folder} holds no class folders\n  put its images there as {folder.name}/<class>/*"
        )
    import numpy as np
    import torch

    names: list[bytes] = []
    counts: list[int] = []
    foreign: list[str] = []
    for entry in entries:
        before = len(names)
        for place, files in _files(folder, entry):
            images = [f"{place}{os.sep}{file}" for file in files if _is_image(file)]
            names += os.fsencode("\0".join(images)).split(b"\0") if images else ()
            if len(images) < len(files):
                foreign += [os.path.join(place, file) for file in files if not _is_image(file)]
        counts.append(len(names) - before)
    if foreign:
        raise DataError(f"not images, in {folder}: {_some(foreign)}\n  move them elsewhere")
    empty = [entry for entry, count in zip(entries, counts, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"class folders without an image, in {folder}: {_some(empty)}\n"
            "  fill them, or remove them from every part"
        )
    labels = torch.arange(len(entries)).repeat_interleave(torch.tensor(counts))
    return tuple(entries), ImageTree(folder, np.array(names), labels)


def _is_image(file: str) -> bool:
    """Whether the name, which does not begin with a dot, has an image's suffix."""
    return file[file.rfind(".") :].lower() in SUFFIXES


def _files(folder: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """All files of a class that count, those in its subfolders too: a place below `folder`, and the
    names there.

    Raises OSError for a folder that cannot be read, and DataError for one that holds itself.
    """
    top = str(folder / name)
    above: dict[str, tuple[tuple[int, int], ...]] = {top: ()}  # device and inode of all parents
    for where, below, files in os.walk(top, onerror=_refuse, followlinks=True):
        state = os.stat(where)
        own, parents = (state.st_dev, state.st_ino), above.pop(where)
        if own in parents:
            raise DataError(f"{where} is a link to a folder that holds it\n  remove the link")
        below[:] = sorted(filter(belongs, below))
        above |= {os.path.join(where, entry): (*parents, own) for entry in below}
        yield os.path.relpath(where, folder), sorted(filter(belongs, files))


def _refuse(error: OSError) -> None:
    raise error


def _check_whole(trees: ImageTrees) -> None:
    """Raises DataError unless the classes and the validation images are those of `meta.bin`."""
    import torch

    file = trees.root / META
    try:
        _, of_validation = torch.load(file, weights_only=True)
        classes = set(of_validation)
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, pickle.PickleError) as error:
        raise DataError(
            f"{file} is not torchvision's ({type(error).__name__})\n"
            "  remove it; torchvision makes it again from the development kit"
        ) from error
    if classes != set(trees.classes):
        raise DataError(
            f"{trees.root} has {len(trees.classes):,} classes, its {META} {len(classes):,}\n"
            f"  missing: {_some(_less(sorted(classes), trees.classes))}; "
            f"not expected: {_some(_less(trees.classes, classes))}"
        )
    if "val" in trees.parts and len(trees.val) != len(of_validation):
        raise DataError(
            f"{trees.val.folder} holds {len(trees.val):,} images, {file} lists "
            f"{len(of_validation):,}\n  unpack it again"
        )


def _missing(name: str, root: Path, data_dir: Path) -> str:
    if any((root / archive).is_file() for archive in ARCHIVES):
        return (
            f"{root} holds ImageNet's archives, not yet unpacked\n  unpack them: python -c "
            f"\"from torchvision.datasets import ImageNet as N; N('{root}', 'train'); "
            f"N('{root}', 'val')\""
        )
    known = sorted(
        path.name
        for path in (data_dir.iterdir() if data_dir.is_dir() else ())
        if any((path / part).is_dir() for part in ("train", *EVALUATION))
    )
    what = (
        f"{root} has neither train/ nor {' nor '.join(f'{part}/' for part in EVALUATION)}"
        if root.is_dir()
        else unknown("image set", name, known) + f" (in {data_dir})"
        if known
        else f"no image set '{name}' in {data_dir}"
    )
    return (
        f"{what}\n  put it there as {root}/train/<class>/*.JPEG and {root}/val/<class>/*.JPEG, "
        "or name another folder with --data DIR or NOS_REPRO_DATA"
    )


def _less(names: Sequence[str], others: object) -> list[str]:
    return [name for name in names if name not in others]  # type: ignore[operator]


def _some(names: Sequence[str]) -> str:
    shown = list(names[:SHOWN])
    if len(names) > SHOWN:
        shown.append(f"and {len(names) - SHOWN:,} more")
    return " ".join(shown) or "-"
