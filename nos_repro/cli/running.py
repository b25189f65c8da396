"""The verbs that run a study's trials: run, verify, cancel; and the verb status."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nos_repro.cli.closing import after_run, command_words, say_next
from nos_repro.cli.common import (
    Verbs,
    add_verb,
    either_arguments,
    find_settings,
    format_argument,
    history_of,
    machine_arguments,
    open_study,
    print_document,
    stop_like_ctrl_c,
    study_arguments,
    training_arguments,
    trust_argument,
    wandb_argument,
    warn_of,
)
from nos_repro.cli.terminal import file_place
from nos_repro.cli.tracking import log_table, say_how_to_sync, saying_how_to_sync, tracker_of
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions
    from nos_repro.experiments.schema import Study
    from nos_repro.experiments.store import Store
    from nos_repro.experiments.tracker import Tracker
    from nos_repro.launch.cost import Prices
    from nos_repro.launch.settings import LauncherSettings


def add_verbs(verbs: Verbs) -> None:
    _add_run(verbs)
    parser = add_verb(verbs, "status", status, "show what has finished, what runs, what is missing",
                      "status configs/table2.yaml --scale small",
                      "status configs/search.yaml --scale small --format json")  # fmt: skip
    study_arguments(parser, "a study's or search's file, e.g. configs/table2.yaml")
    format_argument(parser)
    trust_argument(parser)

    parser = add_verb(verbs, "cancel", cancel, "cancel a study's or search's jobs on the cluster",
                      "cancel configs/table2.yaml --scale small")  # fmt: skip
    either_arguments(parser)
    parser.set_defaults(
        rows=[]
    )  # a job may hold trials of several rows, so all of the study's are cancelled

    parser = add_verb(verbs, "verify", verify,
                      "train stale records' trials again, up to the first evaluation",
                      "verify configs/table2.yaml --scale small",
                      "verify configs/table2.yaml --scale small --whole")  # fmt: skip
    study_arguments(parser)
    machine_arguments(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--whole", action="store_true", help="train them to their end")
    how.add_argument("--save", type=file_place, metavar="FILE",
                     help="with the older code, on a machine that rounds otherwise than the one"
                     " that made the records: save what its trials do here")  # fmt: skip
    how.add_argument("--against", type=file_place, metavar="FILE",
                     help="with today's code: compare with that file, not the records")  # fmt: skip


def _add_run(verbs: Verbs) -> None:
    parser = add_verb(verbs, "run", run, "train a study's missing trials and print its table",
                      "run configs/table2.yaml --scale smoke",
                      "run configs/table2.yaml --scale small --dry-run",
                      "run table2 --scale small task.width=2 --rows 'PowerSign*'",
                      "run my_study.yaml --workers 2 --wandb auto",
                      "run table2 launcher=slurm launcher.cluster=mine --detach",
                      )  # fmt: skip
    study_arguments(parser)
    machine_arguments(parser)
    training_arguments(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true",
                        help="list the trials, estimate the hours; with launcher=slurm print the"
                        " sbatch script too")  # fmt: skip
    parser.add_argument("--probe", action="store_true",
                        help="with launcher=slurm and --dry-run or --budget: time a few updates in"
                        " a short job on the cluster")  # fmt: skip
    parser.add_argument("--budget", type=float, metavar="HOURS",
                        help="only the rows that fit into this many core hours (or GPU hours), the"
                        " cheapest first; at the end, what they took")  # fmt: skip
    how.add_argument("--detach", action="store_true",
                        help="with launcher=slurm: return once the jobs are queued")  # fmt: skip
    wandb_argument(parser, "each trial as a run")


def run(options: argparse.Namespace) -> int:
    stop_like_ctrl_c()
    from nos_repro.experiments.selection import outcomes
    from nos_repro.launch.dry_run import dry_run
    from nos_repro.launch.run import (
        conditions_of,
        launcher_of,
        run_study,
        trial_seconds,
        worker_count,
    )
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.report.study.table import study_table

    study, store = open_study(options, trying=True)
    settings = launcher_settings(study.launcher)
    conditions = conditions_of(options.data, options.checkpoint_seconds, settings, study.device)
    if options.dry_run:
        workers, threads = options.workers, options.threads
        worker_count(workers, threads)  # what it says of a wrong number
        budget, probe = options.budget, options.probe
        print(dry_run(study, store, conditions, workers, threads, settings, budget, probe))
        return 0
    if options.budget is not None:
        study, prices = _rows_within_budget(options, study, store, conditions, settings)
    elif options.probe:
        raise ConfigError("--probe goes with --dry-run or --budget")
    if options.detach and settings.name != "slurm":
        raise ConfigError("--detach needs a cluster that the jobs run on: add launcher=slurm")
    launcher = launcher_of(
        settings,
        store.root,
        study.study,
        lambda: trial_seconds(study, conditions),
        workers=options.workers,
        threads=options.threads,
    )
    tracker = tracker_of(options.wandb, options.wandb_artifacts, study, store.root)
    if options.detach:
        return _detach(options, study, store, launcher, conditions, tracker)
    with saying_how_to_sync(options.wandb, store.root):
        failed = run_study(study, store, launcher, conditions, retry=options.retry, tracker=tracker)
        rows = outcomes(study, store)
        log_table(tracker, options.wandb_artifacts, rows, store.root)
    print(study_table(study, rows).text())
    if options.budget is not None:
        _say_what_it_took(study, store, prices)
    warn_of(store.problems)
    say_next(after_run(options, study, rows))
    return 1 if failed else 0


def _rows_within_budget(
    options: argparse.Namespace,
    study: Study,
    store: Store,
    conditions: Conditions,
    settings: LauncherSettings,
) -> tuple[Study, Prices]:
    """The study with only the rows that fit `--budget`, and the prices by which they were chosen;
    prints which those are."""
    from nos_repro.experiments.estimate import plan
    from nos_repro.launch.cost import check_budget, within_budget
    from nos_repro.launch.probe import timed
    from nos_repro.launch.run import prepare_data

    check_budget(study, options.budget)
    prepare_data(study, conditions)
    planned, probe = plan(study, store), options.probe
    prices = timed(study, store, planned, conditions, settings, options.threads, probe=probe)
    some = within_budget(study, store, planned, prices, options.budget)
    unit = prices.unit
    count = f"{len(some.rows)} of {len(study.rows)} rows fit {options.budget:g} {unit.name}"
    print(f"{count}: {'; '.join(some.rows)}", file=sys.stderr)
    options.rows = list(some.rows)  # what a later command has to name
    return some, prices


def _say_what_it_took(study: Study, store: Store, prices: Prices) -> None:
    """Prints predicted and actual hours of the rows that were run."""
    from nos_repro.experiments.estimate import plan
    from nos_repro.launch.cost import accuracy_lines, row_costs

    rows = row_costs(plan(study, store), prices.costs, store)
    print("\n".join(accuracy_lines(rows, prices.unit)))


def _detach(
    options: argparse.Namespace,
    study: Study,
    store: Store,
    launcher: Any,
    conditions: Conditions,
    tracker: Tracker | None,
) -> int:
    from nos_repro.launch.run import detach

    queued, waiting, why = detach(
        study, store, launcher, conditions, retry=options.retry, tracker=tracker
    )
    results = [] if options.results == Path("results") else ["--results", str(options.results)]
    whole = [options.config, "--scale", options.scale, *options.overrides, *results]
    words = command_words(options)
    arrays = ", ".join(sorted({task.split("_")[0] for task in queued.values()}))
    where = f" in SLURM's {arrays}" if queued else ""
    print(f"{len(queued)} trials are queued or running{where}")
    if waiting:
        print(f"{waiting} trials are NOT queued: {why}; once some have ended, run this again")
    warn_of(store.problems)
    say_next({
        f"status {words}": "how far they are",
        f"report {words}": "the table so far",
        f"run {command_words(options, training=True)}": "submits what comes next",
        f"cancel {shlex.join(whole)}": "ends them all",
    })  # fmt: skip
    return 0


def status(options: argparse.Namespace) -> int:
    from nos_repro.report.documents.status import search_status_document, study_status_document
    from nos_repro.report.search.status import search_status
    from nos_repro.report.study.status import read_status, status_text

    as_json = options.format == "json"
    history = history_of(options)
    if history is not None:
        if as_json:
            print_document(search_status_document(history))
        else:
            print(search_status(history))
            say_how_to_sync(history.folder)
        return 0
    from nos_repro.launch.settings import launcher_settings

    study, store = open_study(options)
    launcher_settings(study.launcher)  # what is wrong with it is said here too
    found = read_status(study, store)
    if as_json:
        print_document(study_status_document(found))
    else:
        print(status_text(found))
        say_how_to_sync(store.root)
    return 0


def cancel(options: argparse.Namespace) -> int:
    from nos_repro.experiments.settings_file import is_search, is_table
    from nos_repro.launch.slurm.ledger import Ledger
    from nos_repro.launch.slurm.recovery import cancel_all

    path = find_settings(options)
    if is_search(path):
        from nos_repro.search.folder import folder_of
        from nos_repro.search.settings import load_search

        search = load_search(path, scale=options.scale, overrides=options.overrides)
        root = folder_of(search, options.results)
    elif is_table(path):
        from nos_repro.search.table.settings import load_table_settings

        settings = load_table_settings(path, scale=options.scale, overrides=options.overrides)
        root = settings.folder(options.results)
    else:
        root = open_study(options)[1].root
    tasks = cancel_all(Ledger(root / "slurm"))
    print(f"{len(tasks)} jobs cancelled" + (f": {' '.join(tasks)}" if tasks else ""))
    return 0


def verify(options: argparse.Namespace) -> int:
    stop_like_ctrl_c()
    from nos_repro.experiments.optimizer_facts import other_versions
    from nos_repro.experiments.selection import is_stale
    from nos_repro.launch.glimpse import save_glimpses, verify_against
    from nos_repro.launch.progress import say
    from nos_repro.launch.run import conditions_of, launcher_of, trial_seconds
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.launch.verify import recorded, verify

    study, store = open_study(options, trying=True)
    settings = launcher_settings(study.launcher)
    conditions = conditions_of(options.data, 60.0, settings, study.device)
    alone = options.save is None and options.against is None
    if alone and not any(is_stale(record) for _, record in recorded(study, store)):
        print("0 stale records trained again: 0 agree, 0 differ")
        return 0
    training = study.training
    epochs = training.epochs if options.whole else min(training.evaluate_every, training.epochs)
    launcher = launcher_of(
        settings,
        store.root,
        study.study,
        lambda: trial_seconds(study, conditions, epochs),
        workers=options.workers,
        threads=options.threads,
    )
    if options.save is not None:
        saved = list(save_glimpses(study, store, conditions, launcher, options.save, say))
        print(f"{options.save}: {len(saved)} trials added")
        return 0
    if options.against is not None:
        trials = verify_against(study, store, conditions, launcher, options.against, say)
    else:
        trials = verify(study, store, conditions, launcher, whole=options.whole, note=say)
    differing = seen = 0
    for trial, agreed in trials:
        seen += 1
        differing += not agreed
        print(f"{'agrees' if agreed else 'DIFFERS'}  {trial.id}  {trial.label()}", flush=True)
    print(f"{seen} stale records trained again: {seen - differing} agree, {differing} differ")
    for change in other_versions(r.provenance for _, r in recorded(study, store)):
        print(f"note: {change}")
    warn_of(store.problems)
    say_next({f"report {command_words(options)}": "the table; what differs stays marked as stale"})
    return 1 if differing else 0
