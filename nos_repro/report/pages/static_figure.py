"""The static figure of a page, for print and for readers without scripts: the committed SVG where
it is that of these records, else drawn anew."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.layout import plain
from nos_repro.report.provenance import origin
from nos_repro.report.search.history import History
from nos_repro.report.search.protocol import origin_lines
from nos_repro.report.study.curve import drawn, said_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """An SVG as a `data:` address, in which no script runs, and what it shows."""

    source: str
    words: str


def study_picture(study: Study, rows: Sequence[Outcome], folder: Path) -> Picture | None:
    """None where the study declares no figure, or has nothing to draw."""
    if study.figure is None or not any(row.counting for row in rows):
        return None

    def draw() -> Figure | None:
        from nos_repro.report.study.figures import draw

        return draw(study, rows)

    lines = origin(study, drawn(study, rows))
    words = f"{study.source}: the figure of {study.study} at scale {study.scale}"
    return _picture(folder / "figure.svg", lines, said_in(study, rows), draw, words)


def search_picture(history: History) -> Picture | None:
    def draw() -> Figure | None:
        from nos_repro.report.search.figure import figure4

        return figure4(history)

    words = "000 Figure 4: the reward against the number of sampled rules"
    return _picture(history.folder / "figure4.svg", origin_lines(history), [], draw, words)


def _picture(
    file: Path,
    lines: Sequence[str],
    texts: Sequence[str],
    draw: Callable[[], Figure | None],
    words: str,
) -> Picture | None:
    """A file that says of its records what they say now (``lines``), and of its axis and rows what
    a new one would (``texts``), is that one: drawing takes a second, and a hundred studies a
    hundred."""
    text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
    asked = [html.escape(line, quote=False) for line in lines]
    asked += [f">{html.escape(plain(each), quote=False)}<" for each in texts]
    if not text or not all(each in text for each in asked):
        figure = draw()
        if figure is None:
            return None
        from nos_repro.report.study.figures import encode

        text = encode(figure, "svg").decode()
    data = base64.b64encode(text.encode()).decode()
    return Picture(f"data:image/svg+xml;base64,{data}", words)
