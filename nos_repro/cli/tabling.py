"""The verb `table`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

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
                        help="train again what failed by a bug")  # fmt: skip


def table(options: argparse.Namespace) -> int:
    stop_like_ctrl_c()
    from nos_repro.launch.run import conditions_of, launcher_of, worker_count
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.search.table.cost import dry_run, job_seconds
    from nos_repro.search.table.make import TableMaker
    from nos_repro.search.table.progress import make_display

    check_results(options.results)
    settings = table_settings(options)
    conditions = conditions_of(options.data, 60.0)
    folder = settings.folder(options.results)
    only: list[str] = options.tasks
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
        TableMaker(settings, folder, launcher, conditions, display, only=only, retry=retry).run()
    finally:
        display.close()
    return 0


def table_settings(options: argparse.Namespace) -> TableSettings:
    """The table that the verb's file declares."""
    from nos_repro.search.table.settings import load_table_settings

    path = find_settings(options)
    settings = load_table_settings(path, scale=options.scale, overrides=options.overrides)
    for name in options.tasks:
        if name not in settings.tasks:
            raise ConfigError(f"--tasks: {unknown('task', name, settings.tasks)}")
    return settings
