"""An image set as a folder `{train,test}/<class>/*`, in which every file is an image."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nos_repro.data.files import belongs, read_file
from nos_repro.data.images import Labelled
from nos_repro.data.pictures import UNSUITABLE, as_rgb, reason
from nos_repro.errors import DataError

SHOWN = 5
"""Names of bad files that an error lists before it counts the rest."""


@dataclass(frozen=True)
class FolderLayout:
    """What a complete folder holds: the number of images per class in each part."""

    classes: tuple[str, ...]
    images_per_class: dict[str, int]
    size: int = 32


def scan(root: Path, layout: FolderLayout) -> dict[str, list[tuple[str, int]]]:
    """The files of each part as (path below `root`, class), sorted, without those that do not
    count (`files.belongs`).

    Raises DataError if a part, a class or an image is missing, or there is one too many.
    """
    return {part: list(_scan_part(root, part, layout)) for part in layout.images_per_class}


def _scan_part(root: Path, part: str, layout: FolderLayout) -> Iterable[tuple[str, int]]:
    found = _visible(root / part)
    missing = [name for name in layout.classes if name not in found]
    foreign = [name for name in found if name not in layout.classes]
    if missing or foreign:
        raise DataError(
            f"{root / part} must hold one folder for each of: {' '.join(layout.classes)}\n"
            f"  missing: {_some(missing) or '-'}; not expected: {_some(foreign) or '-'}"
        )
    wanted = layout.images_per_class[part]
    for label, name in enumerate(layout.classes):
        files = _visible(root / part / name)
        if len(files) != wanted:
            raise DataError(
                f"{root / part / name} must hold {wanted:,} images, found {len(files):,}\n"
                "  unpack the data set again: an incomplete one is never used"
            )
        for file in files:
            yield f"{part}/{name}/{file}", label


def _visible(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: the data set is incomplete, unpack it again")
    return sorted(filter(belongs, os.listdir(folder)))


def read(root: Path, files: Sequence[tuple[str, int]], size: int) -> Labelled:
    """Decodes the files. Raises DataError, which names those that are truncated or unsuitable."""
    images = np.empty((len(files), size, size, 3), dtype=np.uint8)
    bad: list[str] = []
    for place, (name, _) in enumerate(files):
        try:
            with Image.open(io.BytesIO(read_file(root / name))) as image:
                if image.size != (size, size):
                    bad.append(f"{name}: {image.width}x{image.height} pixels, not {size}x{size}")
                    continue
                images[place] = as_rgb(image)
        except UNSUITABLE as error:
            bad.append(f"{name}: {reason(error)}")
    if bad:
        raise DataError(
            f"{len(bad)} of {len(files):,} files below {root} cannot be used\n"
            f"  {_some(bad, between=chr(10) + '  ')}\n  replace them: images are never skipped"
        )
    return Labelled(torch.from_numpy(images), torch.tensor([label for _, label in files]))


def _some(names: Sequence[str], between: str = " ") -> str:
    shown = list(names[:SHOWN])
    if len(names) > SHOWN:
        shown.append(f"and {len(names) - SHOWN:,} more")
    return between.join(shown)
