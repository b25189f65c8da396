"""Photographs that are not in class folders: `DATA/paintings/train/monet_017.png` and so on.

task: {name: nasnet, data: my_package.paintings, classes: 2}
"""

from pathlib import Path

import numpy as np
import torch

from nos_repro.data import PHOTOGRAPHS
from nos_repro.data.trees import ImageTree, ImageTrees
from nos_repro.errors import DataError


@PHOTOGRAPHS.register("paintings")
def paintings(data_dir: Path) -> ImageTrees:
    """Lists the files and their classes; they are decoded when a batch shows them."""
    root = data_dir / "paintings"
    names = {part: sorted(p.name for p in (root / part).glob("*.png")) for part in ("train", "val")}
    painters = sorted({name.partition("_")[0] for files in names.values() for name in files})
    if not painters:
        raise DataError(f"no paintings: put them there as {root}/train/PAINTER_NUMBER.png")
    parts = {}
    for part, files in names.items():
        labels = torch.tensor([painters.index(name.partition("_")[0]) for name in files])
        parts[part] = ImageTree(root / part, np.array([name.encode() for name in files]), labels)
    return ImageTrees(root, tuple(painters), parts)
