"""The static figure of a page, for print and for readers without scripts: the committed SVG where
it is that of these records, else drawn again."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.arena.standing import ArenaStanding
from nos_repro.report.arena.table import origin_lines as origin_lines_of
from nos_repro.report.board.figure import board_figure, small_lines
from nos_repro.report.board.standing import BoardStanding
from nos_repro.report.figures.base import draw, drawn, figure_of
from nos_repro.report.layout import plain
from nos_repro.report.provenance import origin, small_print
from nos_repro.report.search.history import History
from nos_repro.report.search.protocol import origin_lines
from nos_repro.report.words import title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """An SVG as a `data:` address, in which no script runs, and what it shows."""

    source: str
    words: str


def study_picture(study: Study, rows: Sequence[Outcome], folder: Path) -> Picture | None:
    """None where the study declares no figure, or has nothing to draw."""
    figure = figure_of(study)
    if figure is None or not any(row.counting for row in rows):
        return None
    shown = drawn(study, rows)
    lines, texts = origin(study, shown), [figure.caption(shown), *figure.texts(shown)]
    words = f"{title_of(study.study)}: the figure of {study.study} at scale {study.scale}"
    return _picture(folder / "figure.svg", lines, texts, lambda: draw(study, rows), words)


def search_picture(history: History) -> Picture | None:
    def figure() -> Figure | None:
        from nos_repro.report.search.figure import figure4

        return figure4(history)

    words = "The reward against the number of sampled rules (arXiv and ICML version, Figure 4)"
    return _picture(history.folder / "figure4.svg", origin_lines(history), [], figure, words)


def arena_picture(found: ArenaStanding) -> Picture | None:
    def figure() -> Figure | None:
        from nos_repro.report.arena.figure import arena_figure

        return arena_figure(found)

    words = f"The search algorithms of the arena {found.arena.arena}"
    return _picture(found.folder / "figure.svg", origin_lines_of(found), [], figure, words)


def board_picture(found: BoardStanding) -> Picture | None:
    words = f"The scores and performance profiles of the board {found.lead}"
    lines = small_lines(found)
    return _picture(found.folder / "board.svg", lines, [], lambda: board_figure(found), words)


def _picture(
    file: Path,
    lines: Sequence[str],
    texts: Sequence[str],
    drawing: Callable[[], Figure | None],
    words: str,
) -> Picture | None:
    """The file itself, where it says of its records what they say now (``lines``), and all the
    ``texts`` that a new drawing would: drawing takes a second, and a hundred studies a hundred."""
    text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
    asked = [html.escape(line, quote=False) for line in small_print(lines)]
    asked += [f">{html.escape(plain(each), quote=False)}<" for each in small_print(texts)]
    if not text or not all(each in text for each in asked):
        figure = drawing()
        if figure is None:
            return None
        from nos_repro.report.drawing import encode

        text = encode(figure, "svg").decode()
    data = base64.b64encode(text.encode()).decode()
    return Picture(f"data:image/svg+xml;base64,{data}", words)
