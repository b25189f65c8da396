"""The picture of the index that the README shows: `python -m tests.report.pages.picture` takes it.

It carries the digest of the words on the page that it shows, so that a test can tell that it is
stale.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nos_repro.report.claims.results import Results
from nos_repro.report.collection import read_everything
from nos_repro.report.pages.write import INDEX, write_pages
from tests.conftest import ROOT
from tests.report.pages.browser import browser

PICTURE = ROOT / "results" / "index.png"
COMMAND = "python -m tests.report.pages.picture"
KEY = "page"
HEIGHT = 900
"""Of what is shown: totals, and the first studies."""
UNSEEN = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL)


def write_index(folder: Path) -> Path:
    """The pages of the committed results; returns the index."""
    results = Results(ROOT / "results")
    write_pages(read_everything(results), folder)
    return folder / INDEX


def digest(index: Path) -> str:
    words = " ".join(UNSEEN.sub(" ", index.read_text(encoding="utf-8")).split())
    return hashlib.sha256(words.encode()).hexdigest()


def take() -> None:
    with tempfile.TemporaryDirectory() as folder:
        index = write_index(Path(folder))
        with browser(Path(folder)) as chromium:
            chromium.open(index, (1280, HEIGHT))
            chromium.shoot("index")
            taken = (chromium.shots / "index.png").read_bytes()
        said = PngInfo()
        said.add_text(KEY, digest(index))
        Image.open(io.BytesIO(taken)).quantize(128).save(PICTURE, pnginfo=said, optimize=True)


if __name__ == "__main__":
    take()
    print(f"wrote {PICTURE.relative_to(ROOT)}")
