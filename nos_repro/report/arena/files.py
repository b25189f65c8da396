"""What is written beside an arena's records: its table, document and figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nos_repro.experiments.files import write_atomically
from nos_repro.report.arena.figure import arena_figure
from nos_repro.report.arena.standing import ArenaStanding, standing
from nos_repro.report.arena.table import arena_table, origin_lines
from nos_repro.report.documents.arena import arena_document
from nos_repro.report.documents.base import written
from nos_repro.report.layout import escape_markdown
from nos_repro.search.arena.runs import records_file
from nos_repro.search.arena.settings import find_arena, load_arena, shipped_arenas


def begun_arenas(results: Path) -> list[str]:
    """The names of the arenas that ship and have records."""
    return [name for name in shipped_arenas() if records_file(results, name).exists()]


def arena_of(name: str, results: Path) -> ArenaStanding:
    """The arena of that name that ships. Raises ConfigError."""
    return standing(load_arena(find_arena(name)), results)


def write_arena(found: ArenaStanding) -> Iterator[Path]:
    """`table.md`, `arena.json`, `figure.png` and `figure.svg`. Raises StoreError."""
    from nos_repro.report.drawing import encode

    lines = [arena_table(found).markdown(), ""]
    lines += [f"- {escape_markdown(line)}" for line in origin_lines(found)]
    files = {
        "table.md": "\n".join(lines) + "\n",
        "arena.json": written(arena_document(found)) + "\n",
    }
    data = {name: text.encode() for name, text in files.items()}
    figure = arena_figure(found)
    if figure is not None:
        data |= {"figure.png": encode(figure, "png"), "figure.svg": encode(figure, "svg")}
    for name, content in data.items():
        write_atomically(found.folder / name, content)
        yield found.folder / name
