"""The pages' files: of one study or search, or of a whole results folder with its index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.device import CHECKS
from nos_repro.experiments.files import write_atomically
from nos_repro.report.collection import BENCH, Collection
from nos_repro.report.device_check import read_check
from nos_repro.report.nosbench.card import config_of
from nos_repro.report.pages.arena_page import arena_file, arena_line, arena_page
from nos_repro.report.pages.benchmarks import read_benchmarks
from nos_repro.report.pages.board_page import board_file, board_line, board_page
from nos_repro.report.pages.device_page import device_file, device_line, device_page
from nos_repro.report.pages.index_page import index_page, search_card, study_card
from nos_repro.report.pages.nosbench_page import nosbench_page, page_file, table_line
from nos_repro.report.pages.page import ClaimLine, Page, claim_lines
from nos_repro.report.pages.render import ASSETS, assets, render
from nos_repro.report.pages.search_page import search_page
from nos_repro.report.pages.study_page import study_page
from nos_repro.report.paths import file_of

INDEX = "index.html"


def page_path(given: Path, name: str, scale: str) -> Path:
    """The file of one page: ``given``, or in the folder ``given``. Raises ConfigError."""
    path = given if is_file(given) else given / file_of(name, scale)
    check_folder(path.parent)
    return path


def is_file(given: Path) -> bool:
    """Whether `--html` names a page's file, rather than a folder."""
    return given.suffix in (".html", ".htm") and not given.is_dir()


def check_folder(folder: Path) -> None:
    """Raises ConfigError where ``folder`` is a file, or would lie in one."""
    for path in (folder, *folder.parents):
        if path.exists():
            if not path.is_dir():
                raise ConfigError(f"--html {folder}: {path} is a file, not a folder")
            return


def write_page(page: Page, path: Path, *, standalone: bool = True) -> list[Path]:
    """The page, and beside it what it does not hold itself; their paths. Raises StoreError."""
    write_atomically(path, render(page, standalone=standalone))
    return [path, *(() if standalone else _write_assets(path.parent))]


def _write_assets(folder: Path) -> Iterator[Path]:
    for name, text in assets().items():
        write_atomically(folder / ASSETS / name, text.encode())
        yield folder / ASSETS / name


def write_pages(collection: Collection, folder: Path, *, standalone: bool = False) -> list[Path]:
    """One page per study and search, the index, and what they share unless each is standalone;
    returns their paths. Raises StoreError."""
    check_folder(folder)
    written = [] if standalone else list(_write_assets(folder))
    for name, data in pages(collection, standalone=standalone):
        write_atomically(folder / name, data)
        written.append(folder / name)
    return written


def pages(collection: Collection, *, standalone: bool = False) -> Iterator[tuple[str, bytes]]:
    """The files' names and bytes, the index last. A page that cannot be made is named there; the
    others are made."""
    files = {file_of(found.study.study, found.study.scale) for found in collection.studies}
    files |= {file_of(h.asked.search, h.asked.scale) for h in collection.searches}
    claims = claim_lines(collection.judged, files)
    studies, searches = [], []
    for found in collection.studies:
        name, scale = found.study.study, found.study.scale
        with collection.apart(name, scale):
            words, own = collection.words(name, scale), _of(claims, file_of(name, scale))
            page = study_page(found, words, claims=own, index=INDEX)
            data = render(page, standalone=standalone)
            studies.append(study_card(found, own))
            yield file_of(name, scale), data
    for history in collection.searches:
        name, scale = history.asked.search, history.asked.scale
        with collection.apart(name, scale):
            words, own = collection.words(name, scale), _of(claims, file_of(name, scale))
            found_page = search_page(history, words, claims=own, index=INDEX)
            data = render(found_page, standalone=standalone)
            searches.append(search_card(history, own))
            yield file_of(name, scale), data
    tables = []
    for table in collection.tables:
        with collection.apart(page_file(table)):
            words = f"{config_of(table.name)} --scale {table.packed.settings['scale']}"
            table_page = nosbench_page(table, words, results=collection.root, index=INDEX)
            data = render(table_page, standalone=standalone)
            tables.append(table_line(table))
            yield page_file(table), data
    for standing in collection.arenas:
        with collection.apart(arena_file(standing)):
            data = render(
                arena_page(standing, results=collection.root, index=INDEX), standalone=standalone
            )
            tables.append(arena_line(standing))
            yield arena_file(standing), data
    boards = []
    for board in collection.boards:
        with collection.apart(board_file(board)):
            words = f"--scale {board.scale}"
            shown = board_page(board, words, results=collection.root, index=INDEX)
            data = render(shown, standalone=standalone)
            boards.append(board_line(board))
            yield board_file(board), data
    devices = []
    for path in sorted((collection.root / CHECKS).glob("*.json")):
        with collection.apart(f"{CHECKS}/{path.name}"):
            found_check = read_check(path)
            checked = device_page(found_check, results=collection.root, index=INDEX)
            data = render(checked, standalone=standalone)
            devices.append(device_line(found_check))
            yield device_file(found_check), data
    claims = claim_lines(collection.judged, {card.page for card in (*studies, *searches)})
    benchmarks = read_benchmarks(collection.root / BENCH, collection.left_out)
    index = index_page(collection, studies, searches, claims, benchmarks, boards, tables, devices)
    yield INDEX, render(index, standalone=standalone)


def _of(claims: list[ClaimLine], page: str) -> list[ClaimLine]:
    return [claim for claim in claims if claim.page == page]
