"""What `check-device` has found, as tables and in words; it is read from its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nos_repro.experiments.device import CHECKS
from nos_repro.experiments.files import read_json
from nos_repro.report.layout import Cell, Column, ReportTable
from nos_repro.report.pages.tables import slug
from nos_repro.report.provenance import machines

MOST_LETTERS = 100
VERDICT = {True: "holds", False: "does not hold", None: ""}


def check_path(results: Path, device: str) -> Path:
    """The file of a device's check: `results/device/nvidia-h200.json`."""
    return results / CHECKS / f"{device_slug(device)}.json"


def device_slug(device: str) -> str:
    """A device's name in an address or a file's name, which the system may allow 255 letters."""
    return slug(device)[:MOST_LETTERS]


def section_table(section: Mapping[str, Any]) -> ReportTable:
    """A section's rows, with what was left out; the last column says what must hold and does."""
    rows = section["rows"]
    titles = list(dict.fromkeys(title for row in rows for title in row["values"]))
    judged = any(row["holds"] is not None for row in rows)
    cells = [
        [
            Cell(row["what"]),
            *(Cell(_text(row["values"].get(title))) for title in titles),
            *([Cell(VERDICT[row["holds"]])] if judged else []),
        ]
        for row in rows
    ]
    columns = [Column(title) for title in ("what", *titles, *(["verdict"] if judged else []))]
    notes = [*section["notes"], *([f"broke: {section['broke']}"] if section["broke"] else [])]
    about = f"{section['about']} ({section['seconds']:.0f} s)"
    return ReportTable([about], columns if rows else [], cells, notes)


def conclusion(found: Mapping[str, Any]) -> str:
    """The device, and what does not hold on it, in a line."""
    models = ", tiny models" if has_tiny(found) else ""
    return f"{found['device']}{models}: {'; '.join(_failures(found)) or 'all that must hold does'}"


def has_tiny(found: Mapping[str, Any]) -> bool:
    """Whether the models were tiny, as they are on a CPU."""
    return found["quick"] or not found["accelerator"]


def _failures(found: Mapping[str, Any]) -> Iterator[str]:
    for section in found["sections"]:
        for row in section["rows"]:
            if row["holds"] is False:
                yield f"{section['name']}: {row['what']} does not hold"
        if section["broke"]:
            yield f"{section['name']} broke ({section['broke']})"


def origin_of(found: Mapping[str, Any]) -> list[str]:
    """When and by what it was found."""
    when = f"Checked {found['date']}, in {found['seconds']:.0f} s."
    return [when, *machines([found["provenance"]], "process")]


def read_check(path: Path) -> dict[str, Any]:
    """A stored document. Raises ValueError if it is none, OSError if it cannot be read."""
    found = read_json(path.read_bytes())
    if not isinstance(found, dict) or found.get("kind") != "device":
        raise ValueError("not a document of check-device")
    return found


def _text(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
