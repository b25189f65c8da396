"""The report of a search, on the screen and as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nos_repro.experiments.files import write_atomically
from nos_repro.report.layout import ReportTable, escape_latex, escape_markdown
from nos_repro.report.search.confirmation import confirmation
from nos_repro.report.search.crossed import crossed_tables
from nos_repro.report.search.history import History
from nos_repro.report.search.made_by import stale_lines
from nos_repro.report.search.protocol import origin_lines
from nos_repro.report.search.stages import cascade_tables, race_tables
from nos_repro.report.search.tables import course, expressions, hall_of_fame, refused

Format = Literal["text", "markdown", "latex"]


def search_tables(history: History) -> list[ReportTable]:
    """All parts of the report, in their order."""
    return [
        course(history),
        hall_of_fame(history),
        *race_tables(history),
        *confirmation(history),
        *crossed_tables(history),
        *cascade_tables(history),
        refused(history),
        expressions(history),
    ]


def print_report(
    history: History,
    form: Format,
    tables: Sequence[ReportTable] | None = None,
    *,
    today: bool = True,
) -> str:
    """The report in one of its forms, with where its numbers come from.

    ``tables`` are those of `search_tables`, if they are made already. ``today``: what today's code
    would make otherwise is named; a file is to be the same tomorrow.
    """
    origin = [*origin_lines(history), *(stale_lines(history) if today else [])]
    parts = [getattr(table, form)() for table in tables or search_tables(history)]
    if form == "markdown":
        parts.append("\n".join(f"- {escape_markdown(line)}" for line in origin))
    elif form == "latex":
        parts.append("\n".join(escape_latex(line) + r"\par" for line in origin))
    else:
        parts.append("\n".join(origin))
    return "\n\n".join(parts)


def search_files(history: History) -> dict[str, bytes]:
    """`hall_of_fame.md` and `.tex`; with a rule or more, `figure4.png` and `.svg`."""
    from nos_repro.report.drawing import encode
    from nos_repro.report.search.figure import figure4

    figure, tables = figure4(history), search_tables(history)
    markdown = print_report(history, "markdown", tables, today=False)
    latex = print_report(history, "latex", tables, today=False)
    if figure is not None:
        markdown += "\n\n![Reward against the number of sampled rules](figure4.png)"
    files = {
        "hall_of_fame.md": (markdown + "\n").encode(),
        "hall_of_fame.tex": (latex + "\n").encode(),
    }
    if figure is not None:
        files |= {"figure4.png": encode(figure, "png"), "figure4.svg": encode(figure, "svg")}
    return files


def write_search_report(history: History) -> list[Path]:
    """Writes the files into the search's folder; returns their paths. Raises StoreError."""
    files = search_files(history)
    for name, data in files.items():
        write_atomically(history.folder / name, data)
    return [history.folder / name for name in files]
