"""A chart of a page: Plotly's JSON as plain data, its choices, and the rows that can be hidden.

Plotly reads names as a small markup of its own; `shown` makes any text harmless there.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from nos_repro.report.study.curve import style

Trace = dict[str, Any]
Layout = dict[str, Any]

# fmt: off
DASHES = ("solid", "8px,3px", "2px,2px", "8px,3px,2px,3px", "14px,5px", "8px,3px,2px,3px,2px,3px")
"""Plotly's words for the dashes of a figure."""
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
# fmt: on


@dataclass(frozen=True)
class Line:
    """A row in a legend; ``key`` is the `legendgroup` of all that is drawn for it."""

    key: str
    name: str
    colour: str
    dash: str
    hidden: bool = False


@dataclass(frozen=True)
class Control:
    """A choice above a chart: pairs of a key and its words."""

    label: str
    options: list[tuple[str, str]]


@dataclass(frozen=True)
class Variant:
    """What is drawn for a choice: ``keys`` are those of the controls' options, in order."""

    keys: list[str]
    data: list[Trace]
    layout: Layout


@dataclass(frozen=True)
class Chart:
    """``log``: offers a logarithmic y axis. ``words`` are printed below it."""

    name: str
    title: str
    variants: list[Variant]
    lines: list[Line] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    log: bool = False
    words: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {
            "name": self.name,
            "keys": [line.key for line in self.lines],
            "variants": [vars(variant) for variant in self.variants],
        }


def lines_of(
    names: Sequence[str], order: Sequence[int] | None = None, shown: int | None = None
) -> list[Line]:
    """A line for each name; colours are given out in ``order``, and those after the first ``shown``
    are hidden until they are asked for."""
    numbers = range(len(names)) if order is None else order
    places = {number: place for place, number in enumerate(numbers)}
    most = len(names) if shown is None else shown
    looks = [style(places[n]) for n in range(len(names))]
    return [
        Line(str(n), name, looks[n][0], DASHES[looks[n][1]], places[n] >= most)
        for n, name in enumerate(names)
    ]


def layout(x: str, y: str, **more: Any) -> Layout:
    """A plain layout with these axis titles; ``xaxis`` and ``yaxis`` add to the axes'."""
    axes = {
        name: {
            "title": {"text": shown(title), "standoff": 10},
            "automargin": True,
            **more.pop(name, {}),
        }
        for name, title in (("xaxis", x), ("yaxis", y))
    }
    return {
        "margin": {"l": 68, "r": 14, "t": 14, "b": 64},
        "showlegend": False,
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        **axes,
        **more,
    }


def band(group: str, x: list[Any], low: list[Any], high: list[Any], fill: str) -> Trace:
    """What lies between two lines; the pointer does not see it."""
    return {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": group,
        "x": x + x[::-1],
        "y": high + low[::-1],
        "fill": "toself",
        "fillcolor": fill,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def shown(text: str) -> str:
    """``text`` as it reads, in Plotly's markup; `%{` would be a place to fill in."""
    return html.escape(text, quote=False).replace("%{", "%&#123;")


def short(values: Iterable[float]) -> list[float | None]:
    """Six digits of each number, which are more than are seen; None for what is not a number."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def spans_decades(values: Iterable[float]) -> bool:
    """Whether positive values lie so far apart that a linear axis would hide the small ones."""
    known = [value for value in values if value is not None]
    return bool(known) and min(known) > 0 and max(known) / min(known) > 1000


def script_json(values: Any) -> str:
    """JSON for a `<script>`: nothing in it can end the element or begin another."""
    try:
        text = orjson.dumps(values).decode()
    except TypeError:  # a path that is not UTF-8
        text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    for character, written in UNSAFE.items():  # `translate` takes twenty times as long
        text = text.replace(character, written)
    return text
