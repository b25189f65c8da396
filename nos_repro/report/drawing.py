"""What all figures share: an empty canvas, its title and the lines below, its files' bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nos_repro.report.layout import plain as printable
from nos_repro.report.provenance import small_print

DPI = 150
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (9, 3)),
    (0, (5, 1.5, 1, 1.5, 1, 1.5)),
)


def canvas(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finished(figure: Figure, title: str, below: Sequence[str]) -> Figure:
    """The figure with its title and the lines below.

    The layout is settled once: left on, it would move with every file that is made.
    """
    figure.suptitle(plain(title), fontsize=11)
    figure.supxlabel(plain("\n".join(small_print(below))), fontsize=6, color="0.35")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def encode(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The figure's file: the same bytes for the same figure, with no date and no random ids."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "nos_repro", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def plain(text: str) -> str:
    """``text`` with no sign that matplotlib would read as mathematics, or that an SVG cannot hold;
    a line stays one."""
    return "\n".join(map(printable, text.split("\n"))).replace("$", r"\$")
