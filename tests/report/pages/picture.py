"""The picture of the index that the README shows: `python -m tests.report.pages.picture` takes it.

It shows the results that git tracks, and carries the digest of the words on the page, so that a
test can tell that it is stale.
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
from nos_repro.report.collection import read_collection
from nos_repro.report.pages.write import INDEX, write_pages
from tests.committed import export_committed
from tests.conftest import ROOT
from tests.report.pages.browser import browser

PICTURE = "index.png"
"""In `results/`."""
COMMAND = "python -m tests.report.pages.picture"
KEY = "page"
HEIGHT = 900
"""Of what is shown: totals, and the first studies."""
UNSEEN = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL)


def write_index(results: Path, folder: Path) -> Path:
    """The pages of these results; returns the index."""
    found = Results(results)
    write_pages(read_collection(found), folder)
    return folder / INDEX


def digest(index: Path) -> str:
    words = " ".join(UNSEEN.sub(" ", index.read_text(encoding="utf-8")).split())
    return hashlib.sha256(words.encode()).hexdigest()


def take(picture: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        index = write_index(export_committed(folder / "committed"), folder)
        with browser(folder) as chromium:
            chromium.open(index, (1280, HEIGHT))
            chromium.shoot("index")
            taken = (chromium.shots / "index.png").read_bytes()
        said = PngInfo()
        said.add_text(KEY, digest(index))
        Image.open(io.BytesIO(taken)).quantize(128).save(picture, pnginfo=said, optimize=True)


if __name__ == "__main__":
    take(ROOT / "results" / PICTURE)
    print(f"wrote results/{PICTURE}")
