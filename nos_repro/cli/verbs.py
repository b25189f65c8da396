"""What each verb does: it is handed the parsed options and returns the exit status."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions
    from nos_repro.experiments.schema import Study
    from nos_repro.experiments.store import Store
    from nos_repro.experiments.tracker import Tracker
    from nos_repro.report.search.history import History


def open_study(options: argparse.Namespace) -> tuple[Study, Store]:
    from nos_repro.experiments.load import load_study
    from nos_repro.experiments.settings_file import find_config
    from nos_repro.experiments.store import Store
    from nos_repro.report.figures.base import figure_of

    check_results(options.results)
    study = load_study(
        find_config(options.config),
        scale=options.scale,
        overrides=options.overrides,
        rows=options.rows,
        check=figure_of,
    )
    return study, Store(options.results, study.study, study.scale)


def history_of(options: argparse.Namespace) -> History | None:
    """The search that the verb's file states; None where it states a study."""
    from nos_repro.experiments.settings_file import find_config, is_search

    path = find_config(options.config)
    if not is_search(path):
        return None
    from nos_repro.report.search.history import read_history

    check_results(options.results)
    if options.rows:
        raise ConfigError(f"{path}: --rows chooses among a study's rows; a search has none")
    history = read_history(path, options.results, scale=options.scale, overrides=options.overrides)
    for problem in history.problems:
        print(f"warning: {problem}", file=sys.stderr)
    return history


def check_results(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--results {folder}: is a file, not a folder")


def run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _as_interrupt)
    from nos_repro.cli.tracking_verbs import saying_how_to_sync, tracker_of
    from nos_repro.experiments.selection import outcomes
    from nos_repro.launch.dry_run import dry_run
    from nos_repro.launch.run import conditions_of, launcher_of, run_study, trial_seconds
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.report.study.table import study_table

    study, store = open_study(options)
    settings = launcher_settings(study.launcher)
    conditions = conditions_of(options.data, options.checkpoint_seconds, settings)
    if options.dry_run:
        workers, threads = options.workers, options.threads
        print(dry_run(study, store, conditions, workers, threads, settings, options.budget))
        return 0
    if options.budget is not None:
        from nos_repro.cli.judgement import rows_within_budget

        study, costs = rows_within_budget(options, study, store, conditions, settings)
    if options.detach and settings.name != "slurm":
        raise ConfigError("--detach needs a cluster that the jobs run on: say launcher=slurm")
    launcher = launcher_of(
        settings,
        store.root,
        study.study,
        lambda: trial_seconds(study, conditions),
        workers=options.workers,
        threads=options.threads,
    )
    tracker = tracker_of(options.wandb, study, store.root)
    if options.detach:
        return _detach(options, study, store, launcher, conditions, tracker)
    with saying_how_to_sync(options.wandb, store.root):
        failed = run_study(study, store, launcher, conditions, retry=options.retry, tracker=tracker)
    print(study_table(study, outcomes(study, store)).text())
    if options.budget is not None:
        from nos_repro.cli.judgement import say_what_it_took

        say_what_it_took(study, store, costs, settings, options.threads)
    say_problems(store)
    return 1 if failed else 0


def _detach(
    options: argparse.Namespace,
    study: Study,
    store: Store,
    launcher: Any,
    conditions: Conditions,
    tracker: Tracker | None,
) -> int:
    from nos_repro.launch.run import detach

    queued, waiting = detach(
        study, store, launcher, conditions, retry=options.retry, tracker=tracker
    )
    results = [] if options.results == Path("results") else ["--results", str(options.results)]
    whole = [options.config, "--scale", options.scale, *options.overrides, *results]
    rows = [word for row in options.rows for word in ("--rows", row)]
    data = [] if options.data is None else ["--data", str(options.data)]
    words = shlex.join([*whole, *rows])
    arrays = ", ".join(sorted({task.split("_")[0] for task in queued.values()}))
    where = f" in SLURM's {arrays}" if queued else ""
    more = f"; {waiting} more wait for launcher.array_parallelism" if waiting else ""
    print(f"{len(queued)} trials are queued or running{where}{more}")
    print(f"how far they are:  python -m nos_repro status {words}")
    print(f"the table so far:  python -m nos_repro report {words}")
    print(f"what comes next:   python -m nos_repro run {shlex.join([*whole, *rows, *data])}")
    print(f"to end them all:   python -m nos_repro cancel {shlex.join(whole)}")
    say_problems(store)
    return 0


def cancel(options: argparse.Namespace) -> int:
    from nos_repro.experiments.settings_file import find_config, is_search
    from nos_repro.launch.slurm.ledger import Ledger
    from nos_repro.launch.slurm.recovery import cancel_all

    path = find_config(options.config)
    if is_search(path):
        from nos_repro.search.run import folder_of
        from nos_repro.search.settings import load_search

        search = load_search(path, scale=options.scale, overrides=options.overrides)
        root = folder_of(search, options.results)
    else:
        root = open_study(options)[1].root
    tasks = cancel_all(Ledger(root / "slurm"))
    print(f"{len(tasks)} jobs cancelled" + (f": {' '.join(tasks)}" if tasks else ""))
    return 0


def status(options: argparse.Namespace) -> int:
    from nos_repro.cli.tracking_verbs import say_how_to_sync
    from nos_repro.report.study.status import study_status

    history = history_of(options)
    if history is not None:
        from nos_repro.report.search.status import search_status

        print(search_status(history))
        say_how_to_sync(history.folder)
        return 0
    study, store = open_study(options)
    print(study_status(study, store))
    say_how_to_sync(store.root)
    return 0


def verify(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _as_interrupt)
    from nos_repro.launch.progress import say
    from nos_repro.launch.run import conditions_of, launcher_of, trial_seconds
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.launch.verify import verify

    study, store = open_study(options)
    settings = launcher_settings(study.launcher)
    conditions = conditions_of(options.data, 60.0, settings)
    launcher = launcher_of(
        settings,
        store.root,
        study.study,
        lambda: trial_seconds(study, conditions),
        workers=options.workers,
        threads=options.threads,
    )
    differing = seen = 0
    whole = options.whole
    for trial, agreed in verify(study, store, conditions, launcher, whole=whole, note=say):
        seen += 1
        differing += not agreed
        print(f"{'agrees' if agreed else 'DIFFERS'}  {trial.id}  {trial.label()}", flush=True)
    print(f"{seen} stale records trained again: {seen - differing} agree, {differing} differ")
    say_problems(store)
    return 1 if differing else 0


def search(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _as_interrupt)
    import torch

    from nos_repro.cli.tracking_verbs import search_follower
    from nos_repro.experiments.settings_file import find_config
    from nos_repro.launch.run import conditions_of, launcher_of, worker_count
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.search.hall import export_study
    from nos_repro.search.run import (
        child_seconds,
        confirm,
        dry_run,
        folder_of,
        run_search,
        train_refused,
    )
    from nos_repro.search.settings import load_search

    check_results(options.results)
    for flag, number in (("export-best", options.export_best),
                         ("train-refused", options.train_refused)):  # fmt: skip
        if number is not None and number < 1:
            raise ConfigError(f"--{flag} must be at least 1, got {number}")
    search = load_search(
        find_config(options.config), scale=options.scale, overrides=options.overrides
    )
    if options.export_best is not None:
        folder = folder_of(search, options.results)
        path = options.output or folder / "filter.yaml"
        rules = export_study(folder, options.export_best, path)
        print(f"wrote {path}: {rules} rules; next: python -m nos_repro run {path} --scale small")
        return 0
    conditions = conditions_of(options.data, 60.0)
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
    if options.confirm:
        confirm(search, options.results, launcher, conditions)
    elif options.train_refused is not None:
        train_refused(search, options.results, options.train_refused, launcher, conditions)
    else:
        with search_follower(options.wandb, search, folder_of(search, options.results)) as follower:
            run_search(search, options.results, launcher, conditions, workers, follower)
    return 0


def rule(options: argparse.Namespace) -> int:
    from nos_repro.experiments.printed import printed_results
    from nos_repro.rules.catalog import lookup
    from nos_repro.rules.explain import explain

    print(explain(lookup(options.rule), printed_results))
    return 0


def export(options: argparse.Namespace) -> int:
    from nos_repro.optim.export import export

    print(export(options.rule, options.name), end="")
    return 0


def translate(options: argparse.Namespace) -> int:
    from nos_repro.data import data_folder
    from nos_repro.data.parallel import split_lines
    from nos_repro.data.text import decode_text
    from nos_repro.experiments.trained import load_trained
    from nos_repro.tasks.gnmt import GNMT, TranslationData

    task, data = load_trained(options.checkpoint, data_folder(options.data))
    if not isinstance(task, GNMT) or not isinstance(data, TranslationData):
        raise ConfigError(f"{options.checkpoint} is a checkpoint of no GNMT")
    if options.text:
        lines, where = [_utf8(text) for text in options.text], "TEXT"
    else:
        lines, where = (
            split_lines(decode_text(sys.stdin.buffer.read(), "standard input")),
            "standard input",
        )
    print("\n".join(task.translate_lines(lines, data.pieces, where)))
    return 0


def generate(options: argparse.Namespace) -> int:
    from nos_repro.data import data_folder
    from nos_repro.data.corpora import END
    from nos_repro.experiments.trained import load_trained
    from nos_repro.tasks.ptb_lstm import CorpusData, PtbLstm

    if options.words < 1:
        raise ConfigError(f"--words must be at least 1, got {options.words}")
    if options.temperature != 0 and not 0.01 <= options.temperature <= 100:
        raise ConfigError(f"--temperature must be 0, or 0.01 to 100, got {options.temperature}")
    if not 0 <= options.seed < 2**63:
        raise ConfigError(f"--seed must be at least 0 and below 2**63, got {options.seed}")
    task, data = load_trained(options.checkpoint, data_folder(options.data))
    if not isinstance(task, PtbLstm) or not isinstance(data, CorpusData):
        raise ConfigError(f"{options.checkpoint} is a checkpoint of no language model")
    text = _utf8(options.text)
    words = task.write_on(
        text,
        data.corpus,
        options.words,
        temperature=options.temperature,
        seed=options.seed,
    )
    print(" ".join([text, *words]).replace(f" {END}", "\n").replace("\n ", "\n").strip())
    return 0


def _utf8(word: str) -> str:
    """The word of the command line, which must be text."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"TEXT is not UTF-8: {word!r}") from None
    return word


def bench(options: argparse.Namespace) -> int:
    from nos_repro.bench import BENCHMARKS, run_benchmarks

    if options.list:
        print("\n".join(BENCHMARKS.names()))
        return 0
    return run_benchmarks(options.names, options.results)


def say_problems(store: Store) -> None:
    for problem in store.problems:
        print(f"warning: {problem}", file=sys.stderr)


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM stops a run the way Ctrl-C does: every running trial saves its state."""
    raise KeyboardInterrupt
