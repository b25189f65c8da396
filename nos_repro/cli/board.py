"""The verb `board`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nos_repro.cli.common import (
    Verbs,
    add_verb,
    format_argument,
    print_document,
    reads,
    results_argument,
    warn_of,
)
from nos_repro.cli.terminal import check_results, place
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from nos_repro.report.board.standing import BoardStanding


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "board", board,
                      "compare optimizers over several studies: time to a target, scores, profiles",
                      "board", "board --format markdown --short",
                      "board modern modern_numbers --target Momentum",
                      "board one.yaml other.yaml --html board.html")  # fmt: skip
    parser.add_argument("configs", metavar="CONFIG", nargs="*", default=[],
                        help="the files of two studies or more with the same rows, one task each"
                        " (default: modern and the studies that are based on it)")  # fmt: skip
    parser.add_argument("--scale", help="of the studies (default: the first of the first file)")
    results_argument(parser)
    parser.add_argument("--target", metavar="ROW",
                        help="the row that sets the targets, and that the others are compared with"
                        " (default: AdamW)")  # fmt: skip
    parser.add_argument("--share", type=float, metavar="SHARE",
                        help="the share of its training after which it has reached them"
                        " (default: 0.8)")  # fmt: skip
    parser.add_argument("--short", action="store_true",
                        help="one small table, as for a README: scores, wins, losses")  # fmt: skip
    format_argument(parser, "markdown", "latex")
    parser.add_argument("--html", type=place, metavar="FILE.html|DIR",
                        help="also write an HTML page: FILE.html holds everything; in a folder it"
                        " is called board-STUDY-SCALE.html and shares assets/")  # fmt: skip
    parser.add_argument("--write", action="store_true",
                        help="also write board.md, board.json and a figure next to modern's"
                        " records; only for the board that ships")  # fmt: skip


@reads
def board(options: argparse.Namespace) -> int:
    from nos_repro.report.board.measures import TARGET_SHARE
    from nos_repro.report.board.standing import REFERENCE, board_standing
    from nos_repro.report.board.table import board_tables, short_table
    from nos_repro.report.claims.results import Results

    check_results(options.results)
    files, scale = _studies(options)
    changed = options.configs or options.target is not None or options.share is not None
    if options.write and changed:
        raise ConfigError(
            "--write is for the board that ships; leave out --target, --share and the studies"
        )
    results = Results(options.results, files)
    found = board_standing(
        results,
        list(files),
        scale,
        reference=options.target or REFERENCE,
        share=TARGET_SHARE if options.share is None else options.share,
    )
    page = None
    if options.html is not None:
        from nos_repro.report.pages.write import page_path

        page = page_path(options.html, f"board-{found.lead}", scale)
    if options.format == "json":
        from nos_repro.report.documents.board import board_document

        print_document(board_document(found))
    else:
        tables = [short_table(found)] if options.short else board_tables(found)
        print("\n\n".join(getattr(table, options.format)() for table in tables))
    if options.write:
        from nos_repro.report.board.files import write_board

        _say_written(*write_board(found))
    if page is not None:
        _write_page(options, found, page)
    warn_of(found.problems)
    return 0


def _studies(options: argparse.Namespace) -> tuple[dict[str, Path], str]:
    """The files by the names of their studies, in the order asked for, and the scale."""
    from nos_repro.experiments.layers import scale_in_effect
    from nos_repro.experiments.settings_file import find_config, read_values, shipped
    from nos_repro.report.board.standing import siblings

    if options.configs:
        files = {}
        for given in options.configs:
            path = find_config(given)
            values = read_values(path)
            if "study" not in values:
                raise ConfigError(f"{given}: a board compares studies, and this is not one")
            if str(values["study"]) in files:
                raise ConfigError(f"{given}: the study {values['study']} is named twice")
            files[str(values["study"])] = path
    else:
        known = shipped()
        files = {name: known[name] for name in siblings(known)}
    if len(files) < 2:
        raise ConfigError(f"a board compares two studies or more; {options.configs[0]} is one")
    first = next(iter(files.values()))
    return files, options.scale or scale_in_effect(read_values(first))


def _write_page(options: argparse.Namespace, found: BoardStanding, path: Path) -> None:
    import shlex

    from nos_repro.experiments.settings_file import find_config
    from nos_repro.report.pages.board_page import board_page
    from nos_repro.report.pages.write import is_file, write_page
    from nos_repro.report.paths import config_words

    words = [config_words(find_config(given)) for given in options.configs]
    asked = ["--scale", found.scale]
    asked += [] if options.target is None else ["--target", options.target]
    asked += [] if options.share is None else ["--share", f"{options.share:g}"]
    command = " ".join([*words, shlex.join(asked)])
    page = board_page(found, command, results=options.results)
    _say_written(*write_page(page, path, standalone=is_file(options.html)))


def _say_written(*paths: Path) -> None:
    for path in paths:
        print(f"wrote {path}", file=sys.stderr)
