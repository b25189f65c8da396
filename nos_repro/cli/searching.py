"""The verb `search`."""

from __future__ import annotations

import argparse
import shlex

from nos_repro.cli.closing import command_words, say_next
from nos_repro.cli.common import (
    Verbs,
    add_verb,
    file_arguments,
    find_settings,
    machine_arguments,
    stop_like_ctrl_c,
    wandb_argument,
)
from nos_repro.cli.terminal import check_results, file_place
from nos_repro.cli.tracking import search_follower
from nos_repro.errors import ConfigError


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "search", search, "search for update rules, or resume a search",
                      "search configs/search.yaml --scale smoke",
                      "search my_search.yaml --dry-run",
                      "search my_search.yaml --confirm",
                      "search my_search.yaml --export-best 12 --output best.yaml",
                      )  # fmt: skip
    file_arguments(parser, "a search's file, e.g. configs/search.yaml", "samples=100")
    machine_arguments(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true",
                        help="describe the space and estimate the hours")  # fmt: skip
    how.add_argument("--export-best", type=int, metavar="N",
                        help="write the N best rules as a study that filters them")  # fmt: skip
    parser.add_argument("--output", type=file_place, metavar="FILE",
                        help="output file for --export-best (default: filter.yaml next to the"
                        " log)")  # fmt: skip
    how.add_argument("--confirm", action="store_true",
                        help="train the best rules and the baselines with fresh seeds")  # fmt: skip
    how.add_argument("--train-refused", type=int, metavar="N",
                        help="train N of the rules that the probes refused")  # fmt: skip
    parser.add_argument("--retry", action="store_true",
                        help="train again what failed by a bug")  # fmt: skip
    wandb_argument(parser, "the search as one run")


def search(options: argparse.Namespace) -> int:
    stop_like_ctrl_c()
    import torch

    from nos_repro.launch.run import conditions_of, launcher_of, worker_count
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.search.filter import check_section, export_study
    from nos_repro.search.folder import folder_of
    from nos_repro.search.run import (
        child_seconds,
        confirm,
        dry_run,
        run_search,
        train_refused,
    )
    from nos_repro.search.settings import load_search
    from nos_repro.search.summary import closing_lines

    check_results(options.results)
    for flag, number in (("export-best", options.export_best),
                         ("train-refused", options.train_refused)):  # fmt: skip
        if number is not None and number < 1:
            raise ConfigError(f"--{flag} must be at least 1, got {number}")
    if options.output is not None and options.export_best is None:
        raise ConfigError("--output is for --export-best; a search writes into --results")
    search = load_search(find_settings(options), scale=options.scale, overrides=options.overrides)
    check_section(search.filter)
    if options.export_best is not None:
        folder = folder_of(search, options.results)
        path = options.output or folder / "filter.yaml"
        rules, scale = export_study(search, folder, options.export_best, path)
        print(f"wrote {path}: {rules} rules")
        say_next({f"run {shlex.join([str(path), '--scale', scale, *_data(options)])}":
                  "trains them longer, and stops the weak ones"})  # fmt: skip
        return 0
    conditions = conditions_of(options.data, 60.0, device=search.device)
    settings = launcher_settings(search.launcher)
    workers = max(1, worker_count(options.workers, options.threads))
    torch.set_num_threads(1)  # the controller's; a replay repeats its sums bit for bit
    if options.dry_run:
        print(dry_run(search, options.results, conditions, workers))
        return 0
    launcher = launcher_of(
        settings,
        folder_of(search, options.results),
        search.search,
        lambda: child_seconds(search.child, conditions),
        workers=options.workers,
        threads=options.threads,
        proposing=True,
    )
    if settings.name == "slurm":
        workers = launcher.free
    retry: bool = options.retry
    folder = folder_of(search, options.results)
    if options.confirm:
        confirm(search, options.results, launcher, conditions, retry=retry)
    elif options.train_refused is not None:
        some: int = options.train_refused
        train_refused(search, options.results, some, launcher, conditions, retry=retry)
    else:
        kinds: list[str] = options.wandb_artifacts
        with search_follower(options.wandb, kinds, search, folder) as follower:
            run_search(
                search, options.results, launcher, conditions, workers, follower, retry=retry
            )
    lines, commands, failed = closing_lines(
        search,
        folder,
        command_words(options),
        " ".join(["", *map(shlex.quote, _data(options))]),
        confirmed=options.confirm,
    )
    print("\n".join(lines))
    say_next(commands)
    return 1 if failed else 0


def _data(options: argparse.Namespace) -> list[str]:
    return [] if options.data is None else ["--data", str(options.data)]
