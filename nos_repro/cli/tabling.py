"""The verb `table`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nos_repro.cli.closing import command_words, say_next
from nos_repro.cli.common import (
    Verbs,
    add_verb,
    file_arguments,
    find_settings,
    machine_arguments,
    stop_like_ctrl_c,
)
from nos_repro.cli.terminal import check_results
from nos_repro.errors import ConfigError, unknown

if TYPE_CHECKING:
    from nos_repro.search.table.settings import TableSettings
    from nos_repro.search.table.verify import Verified


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "table", table, "train all rules of a space, or extend such a table",
                      "table configs/nosbench/signs.yaml --scale smoke",
                      "table configs/nosbench/signs.yaml --dry-run",
                      "table configs/nosbench/signs.yaml --verify 20",
                      )  # fmt: skip
    file_arguments(
        parser, "a table's file, e.g. configs/nosbench/signs.yaml", "tasks.digits.together=8"
    )
    machine_arguments(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true",
                     help="say how many rules and children there are, and what they"
                     " take")  # fmt: skip
    how.add_argument("--verify", type=int, metavar="N",
                     help="train N rows again, drawn at random, and compare them to"
                     " the bit")  # fmt: skip
    parser.add_argument("--tasks", action="append", default=[], metavar="TASK",
                        help="only this task, or these; repeatable")  # fmt: skip
    parser.add_argument("--retry", action="store_true",
                        help="train again what failed by a bug, or took too long")  # fmt: skip


def table(options: argparse.Namespace) -> int:
    stop_like_ctrl_c()
    from nos_repro.launch.run import conditions_of, launcher_of, worker_count
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.report.nosbench.card import write_card
    from nos_repro.search.table.cost import dry_run, job_seconds
    from nos_repro.search.table.make import TableMaker
    from nos_repro.search.table.progress import make_display
    from nos_repro.search.table.verify import verify

    check_results(options.results)
    settings = table_settings(options)
    conditions = conditions_of(options.data, 60.0, device=settings.device)
    folder = settings.folder(options.results)
    only: list[str] = options.tasks
    if options.verify is not None and options.verify < 1:
        raise ConfigError(f"--verify must be at least 1, got {options.verify}")
    if options.dry_run:
        workers = max(1, worker_count(options.workers, options.threads))
        print(dry_run(settings, folder, conditions, workers, only))
        return 0
    launcher = launcher_of(
        launcher_settings(settings.launcher),
        folder,
        settings.table,
        lambda: job_seconds(settings, conditions),
        workers=options.workers,
        threads=options.threads,
        proposing=True,
    )
    display = make_display()
    retry: bool = options.retry
    try:
        if options.verify is not None:
            return _verify(verify(folder, options.verify, launcher, conditions, display))
        TableMaker(
            settings, folder, launcher, conditions, display,
            only=only, retry=retry, on_packed=write_card,
        ).run()  # fmt: skip
    finally:
        display.close()
        launcher.close()
    say_next({f"report {command_words(options)}": "what it says"})
    return 0


def _verify(rows: Iterable[Verified]) -> int:
    """Says of each row whether it came out again; 1 if one did not."""
    equal = wrong = stale = 0
    for found in rows:
        stale += found.stale
        if not found.differs:
            equal += 1
            continue
        wrong += 1
        print(f"{found.task}, seed {found.row.seed}, {found.rule}: differs")
        for key, (then, now) in found.differs.items():
            print(f"  {key}: the table says {then}, now it is {now}")
    print(f"{equal:,} of {equal + wrong:,} rows came out equal to the bit")
    if stale:
        print(f"  {stale:,} of them were made by other code than today's")
    return 1 if wrong else 0


def table_settings(options: argparse.Namespace) -> TableSettings:
    """The table that the verb's file declares."""
    from nos_repro.search.table.settings import load_table_settings

    path = find_settings(options)
    settings = load_table_settings(path, scale=options.scale, overrides=options.overrides)
    for name in options.tasks:
        if name not in settings.tasks:
            raise ConfigError(f"--tasks: {unknown('task', name, settings.tasks)}")
    return settings
