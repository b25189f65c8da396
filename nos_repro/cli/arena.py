"""The verb `arena`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nos_repro.cli.common import (
    Verbs,
    add_verb,
    format_argument,
    print_document,
    results_argument,
    stop_like_ctrl_c,
)
from nos_repro.cli.terminal import check_results
from nos_repro.errors import ConfigError, unknown

if TYPE_CHECKING:
    from nos_repro.search.arena.settings import Arena


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "arena", arena, "compare search algorithms over a table of rules",
                      "arena", "arena controller --rows ppo", "arena my_arena.yaml",
                      "arena --verify 1")  # fmt: skip
    parser.add_argument("config", metavar="CONFIG", nargs="?", default="arena",
                        help="an arena's file (default: arena, which ships)")  # fmt: skip
    results_argument(parser)
    parser.add_argument("--rows", action="append", default=[], metavar="ROW",
                        help="only this row of the file; repeatable")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, metavar="N",
                        help="runs at a time (default: 1)")  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--again", action="store_true",
                     help="play again what was played by other code")  # fmt: skip
    how.add_argument("--verify", type=int, metavar="N",
                     help="of the runs that other code played, play N of each row and setting"
                     " again; sign all of them if these come out as recorded")  # fmt: skip
    how.add_argument("--show", action="store_true",
                     help="only print the table of what has been played")  # fmt: skip
    format_argument(parser, "markdown")


def arena(options: argparse.Namespace) -> int:
    from nos_repro.report.arena.standing import standing
    from nos_repro.report.arena.table import arena_table
    from nos_repro.search.arena.settings import find_arena, load_arena

    check_results(options.results)
    if options.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {options.workers}")
    asked = load_arena(find_arena(options.config))
    for row in options.rows:
        if row not in asked.rows:
            raise ConfigError(f"--rows: {unknown('row', row, asked.rows)}")
    if options.verify is not None:
        return _verify(asked, options)
    if not options.show:
        stop_like_ctrl_c()
        from nos_repro.search.arena.complete import complete

        complete(
            asked,
            options.results,
            _say,
            workers=options.workers,
            rows=options.rows,
            again=options.again,
        )
    found = standing(asked, options.results)
    if options.format == "json":
        from nos_repro.report.documents.arena import arena_document

        print_document(arena_document(found))
    else:
        print(getattr(arena_table(found), options.format)())
    return 0


def _verify(asked: Arena, options: argparse.Namespace) -> int:
    from nos_repro.search.arena.verify import verify_runs

    stop_like_ctrl_c()
    if options.verify < 1:
        raise ConfigError(f"--verify must be at least 1, got {options.verify}")
    agreed = verify_runs(
        asked, options.results, options.verify, _say, workers=options.workers, rows=options.rows
    )
    return 0 if agreed else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
