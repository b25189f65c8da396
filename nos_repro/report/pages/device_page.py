"""The page of a device's check, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nos_repro.experiments.device import CHECKS
from nos_repro.report.device_check import (
    conclusion,
    device_slug,
    has_tiny,
    origin_of,
    section_table,
)
from nos_repro.report.layout import ReportTable
from nos_repro.report.pages.nosbench_page import TableLine
from nos_repro.report.pages.search_page import SearchPage
from nos_repro.report.pages.tables import page_table
from nos_repro.report.paths import results_words


def device_file(found: Mapping[str, Any]) -> str:
    """The file name of its page: `device-nvidia-h200.html`."""
    return f"{CHECKS}-{device_slug(found['device'])}.html"


def device_line(found: Mapping[str, Any]) -> TableLine:
    """The line of the index."""
    return TableLine(found["device"], device_file(found), found["date"][:10], conclusion(found))


def device_page(
    found: Mapping[str, Any], *, results: Path = Path("results"), index: str = ""
) -> SearchPage:
    tables = []
    for section in found["sections"]:
        table = section_table(section)
        heading = [f"{section['name'].capitalize()}: {table.heading[0]}"]
        tables.append(page_table(ReportTable(heading, table.columns, table.rows, table.notes)))
    return SearchPage(
        document=dict(found),
        name=device_file(found).removesuffix(".html"),
        title=found["device"],
        scale="tiny" if has_tiny(found) else "paper",
        source="",
        papers=False,
        says="",
        heading=[conclusion(found)],
        problems=[],
        course=None,
        picture=None,
        tables=tables,
        origin=origin_of(found),
        commands=[f"python -m nos_repro check-device{results_words(results)}"],
        index=index,
    )
