"""The benchmarks' files, `results/bench/*.json`, for the index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nos_repro.experiments.files import read_json
from nos_repro.report.layout import Cell, Column, ReportTable
from nos_repro.report.pages.tables import Badge, PageCell, PageTable, page_table
from nos_repro.report.provenance import machines


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's rows, how many budgets were met and missed, and where that was."""

    name: str
    badges: list[Badge]
    table: PageTable
    origin: list[str]


def read_benchmarks(folder: Path, left_out: list[str]) -> list[Benchmark]:
    """All of them; a file that is not a benchmark's is named in ``left_out``."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(_benchmark(read_json(path.read_bytes())))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = error.strerror if isinstance(error, OSError) else error  # which names no folder
            problem = f"{type(error).__name__}: {said}"
            left_out.append(f"{folder.name}/{path.name}: no benchmark's file ({problem})")
    return found


def _benchmark(values: dict[str, Any]) -> Benchmark:
    rows = list(map(_cells, values["rows"]))
    columns = [Column(title) for title in ("what", "measured", "budget", "")]
    verdicts = [_verdict(row) for row in values["rows"]]
    table = page_table(ReportTable([], columns, rows))
    for line, verdict in zip(table.rows, verdicts, strict=True):
        line[3] = PageCell("", badge=Badge(verdict) if verdict else None)
    kinds = [kind for kind in ("met", "missed") if kind in verdicts]
    badges = [Badge(kind, verdicts.count(kind)) for kind in kinds]
    origin = [f"Measured {values['date']}.", *machines([values], "process")]
    return Benchmark(values["benchmark"], badges, table, origin)


def _verdict(row: dict[str, Any]) -> str:
    return "" if row["met"] is None else "met" if row["met"] else "missed"


def _cells(row: dict[str, Any]) -> list[Cell]:
    value = row["value"]
    measured = f"{_number(value['median'])} {value['unit']}"
    if value["rounds"] > 1:
        measured += f" [{_number(value['low'])}, {_number(value['high'])}]"
    return [Cell(text) for text in (row["what"], measured, " ".join(_budget(row)), "")]


def _budget(row: dict[str, Any]) -> Iterator[str]:
    for key in ("at_most", "at_least"):
        if row[key] is not None:
            yield f"{key.replace('_', ' ')} {_number(row[key])}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
