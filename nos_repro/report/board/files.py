"""What is written beside the records of the study that leads a board: its tables, document and
figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nos_repro.experiments.files import write_atomically
from nos_repro.report.board.figure import board_figure
from nos_repro.report.board.standing import BoardStanding
from nos_repro.report.board.table import board_tables, origin_lines
from nos_repro.report.documents.base import written
from nos_repro.report.documents.board import board_document
from nos_repro.report.layout import escape_markdown


def board_files(found: BoardStanding) -> dict[str, bytes]:
    """`board.md`, `board.json`, `board.png` and `board.svg`; none while no task has a target."""
    from nos_repro.report.drawing import encode

    if not found.counted:
        return {}
    parts = [table.markdown() for table in board_tables(found)]
    parts += ["\n".join(f"- {escape_markdown(line)}" for line in origin_lines(found))]
    files = {
        "board.md": ("\n\n".join(parts) + "\n").encode(),
        "board.json": (written(board_document(found)) + "\n").encode(),
    }
    figure = board_figure(found)
    if figure is not None:
        files |= {"board.png": encode(figure, "png"), "board.svg": encode(figure, "svg")}
    return files


def write_board(found: BoardStanding) -> Iterator[Path]:
    """The files that were written. Raises StoreError where the disk refuses."""
    for name, data in board_files(found).items():
        write_atomically(found.folder / name, data)
        yield found.folder / name
