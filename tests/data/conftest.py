"""Small data sets in the forms in which CIFAR-10 comes, and a separate user cache per test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nos_repro"


@pytest.fixture
def make_images():
    """Writes `{train,test}/<class>/*.png` with random pixels; returns these pixels by path."""

    def make(root: Path, classes: tuple[str, ...], counts: dict[str, int]) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(0)
        written = {}
        for part, count in counts.items():
            for name in classes:
                (root / part / name).mkdir(parents=True)
                for i in range(count):
                    pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(root / part / name / f"{i:04}.png")
                    written[f"{part}/{name}/{i:04}.png"] = pixels
        return written

    return make
