"""The command line: one verb a function. Imports come late, so that `--help` is instant."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from nos_repro.errors import ConfigError, NosError

if TYPE_CHECKING:
    from nos_repro.experiments.schema import Study
    from nos_repro.experiments.store import Store
    from nos_repro.report.search_history import History

USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status (1: failed, 2: user mistake, 130: interrupted)."""
    parser = _parser()
    options, words = parser.parse_known_args(arguments)
    if not hasattr(options, "verb"):
        parser.print_help()
        return USER_ERROR
    unknown_flags = [word for word in words if word.startswith("-")]
    if unknown_flags or (words and not hasattr(options, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(unknown_flags or words)}")
    if hasattr(options, "overrides"):
        options.overrides = [*options.overrides, *words]
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        status = verb(options)
        sys.stdout.flush()  # here a closed pipe is answered; at the interpreter's exit it is noise
        return status
    except NosError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nos-repro",
        description="Reproduce, use and search the optimizers of 'Neural Optimizer Search with"
        " Reinforcement Learning' (Bello et al., 2017).",
        epilog="example: python -m nos_repro run configs/table2.yaml --scale smoke",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    run = _verb(
        verbs, "run", _run, "train the trials of a study that have no record, print its table"
    )
    _study_arguments(run)
    _machine_arguments(run)
    run.add_argument("--retry", action="store_true", help="try the trials that failed again")
    run.add_argument("--dry-run", action="store_true", help="list the trials, estimate the hours")
    run.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S",
                     help="time between checkpoints of a trial (default 60)")  # fmt: skip

    report = _verb(
        verbs, "report", _report, "print the table of a study, or the report of a search, so far"
    )
    _study_arguments(report)
    report.add_argument("--format", choices=("text", "markdown", "latex"), default="text")
    report.add_argument("--write", action="store_true",
                        help="also write tables and figure beside the records")  # fmt: skip

    status = _verb(verbs, "status", _status, "what has ended, what runs, what is missing")
    _study_arguments(status)

    verify = _verb(
        verbs, "verify", _verify, "train stale records' trials again up to their first evaluation"
    )
    _study_arguments(verify)
    _machine_arguments(verify)
    verify.add_argument("--whole", action="store_true", help="train them to their end")

    search = _verb(verbs, "search", _search, "search for update rules, or go on with a search")
    _file_arguments(search, "a search's file, e.g. configs/search.yaml", "samples=100")
    _machine_arguments(search)
    search.add_argument("--dry-run", action="store_true", help="the space, and about how long")
    search.add_argument("--export-best", type=int, metavar="N",
                        help="write the N best rules as a study that filters them")  # fmt: skip
    search.add_argument("--output", type=Path, metavar="FILE",
                        help="of --export-best (default: filter.yaml beside the log)")  # fmt: skip
    search.add_argument("--confirm", action="store_true",
                        help="train the best rules and the baselines by fresh seeds")  # fmt: skip
    search.add_argument("--train-refused", type=int, metavar="N",
                        help="train N of the rules that the probes refused")  # fmt: skip

    rule = _verb(verbs, "rule", _rule, "explain an update rule, by its text or its name")
    rule.add_argument("rule", metavar="RULE", help="e.g. 'exp(sign(g)*sign(m)) * g', or powersign")

    export = _verb(
        verbs, "export", _export, "write an update rule as one file that needs torch alone"
    )
    export.add_argument("rule", metavar="RULE", help="as for the verb rule, or 'rule: TEXT'")
    export.add_argument("--name", metavar="NAME", help="of the class (default: by the rule)")

    translate = _verb(verbs, "translate", _translate, "translate lines of text by a trained GNMT")
    translate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT",
                           help="a trial's checkpoint.pt, or its folder")  # fmt: skip
    translate.add_argument("text", nargs="*", metavar="TEXT",
                           help="a sentence each (default: standard input's lines)")  # fmt: skip
    translate.add_argument("--data", type=Path, metavar="DIR",
                           help="where the text lies that the model was trained on")  # fmt: skip

    bench = _verb(verbs, "bench", _bench, "run the repository's benchmarks (ratios, interleaved)")
    bench.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    bench.add_argument("--list", action="store_true", help="only say which there are")
    _results_argument(bench)
    return parser


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int],
    help_text: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(verb=function)
    return parser


def _file_arguments(parser: argparse.ArgumentParser, what: str, override: str) -> None:
    parser.add_argument("config", metavar="CONFIG", help=what)
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE",
                        help=f"settings laid over the file's, e.g. {override}")  # fmt: skip
    parser.add_argument("--scale", default="paper", help="paper (default), small or smoke")
    _results_argument(parser)


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    _file_arguments(parser, "a study file, e.g. configs/table2.yaml", "task.width=2")
    parser.add_argument("--rows", action="append", default=[], metavar="ROW",
                        help="only this row, or these: 'PowerSign*'; repeatable")  # fmt: skip


def _machine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the data sets lie (default:"
                     " $NOS_REPRO_DATA, else a folder in the user's cache)")  # fmt: skip
    parser.add_argument("--workers", type=int, metavar="N", help="trials at a time (default: one a"
                     " core, or one a GPU; 0: in this process)")  # fmt: skip
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="cores a trial (default: 1)"
    )


def _results_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR",
                        help="where records are kept (default: results)")  # fmt: skip


def _open(options: argparse.Namespace) -> tuple[Study, Store]:
    from nos_repro.experiments.load import load_study
    from nos_repro.experiments.settings_file import find_config
    from nos_repro.experiments.store import Store

    _check_results(options.results)
    study = load_study(
        find_config(options.config),
        scale=options.scale,
        overrides=options.overrides,
        rows=options.rows,
    )
    return study, Store(options.results, study.study, study.scale)


def _history(options: argparse.Namespace) -> History | None:
    """The search that the verb's file states; None where it states a study."""
    from nos_repro.experiments.settings_file import find_config, is_search

    path = find_config(options.config)
    if not is_search(path):
        return None
    from nos_repro.report.search_history import read_history

    _check_results(options.results)
    if options.rows:
        raise ConfigError(f"{path}: --rows chooses among a study's rows; a search has none")
    history = read_history(path, options.results, scale=options.scale, overrides=options.overrides)
    for problem in history.problems:
        print(f"warning: {problem}", file=sys.stderr)
    return history


def _check_results(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--results {folder}: is a file, not a folder")


def _run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _as_interrupt)
    from nos_repro.experiments.selection import outcomes
    from nos_repro.launch.run import conditions_of, dry_run, launcher_of, run_study
    from nos_repro.report.table import study_table

    study, store = _open(options)
    conditions = conditions_of(options.data, options.checkpoint_seconds)
    if options.dry_run:
        print(dry_run(study, store, conditions, options.workers, options.threads))
        return 0
    launcher = launcher_of(options.workers, options.threads)
    failed = run_study(study, store, launcher, conditions, retry=options.retry)
    print(study_table(study, outcomes(study, store)).text())
    _say_problems(store)
    return 1 if failed else 0


def _report(options: argparse.Namespace) -> int:
    from nos_repro.experiments.selection import outcomes
    from nos_repro.report.table import study_table
    from nos_repro.report.write import write_report

    if options.write and (options.overrides or options.rows):
        raise ConfigError("--write is for the whole study's table; leave out --rows and overrides")
    history = _history(options)
    if history is not None:
        return _report_search(history, options)
    study, store = _open(options)
    rows = outcomes(study, store)
    table = study_table(study, rows)
    print(getattr(table, options.format)())
    if options.write:
        for path in write_report(study, rows, store.root):
            print(f"wrote {path}", file=sys.stderr)
    _say_problems(store)
    return 0


def _report_search(history: History, options: argparse.Namespace) -> int:
    from nos_repro.report.search_report import print_report, write_search_report

    print(print_report(history, options.format))
    if options.write:
        for path in write_search_report(history):
            print(f"wrote {path}", file=sys.stderr)
    return 0


def _status(options: argparse.Namespace) -> int:
    from nos_repro.report.status import study_status

    history = _history(options)
    if history is not None:
        from nos_repro.report.search_status import search_status

        print(search_status(history))
        return 0
    study, store = _open(options)
    print(study_status(study, store))
    return 0


def _verify(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _as_interrupt)
    from nos_repro.launch.run import conditions_of, worker_count
    from nos_repro.launch.verify import verify

    study, store = _open(options)
    conditions = conditions_of(options.data, 60.0)
    workers = worker_count(options.workers, options.threads)
    differing = seen = 0
    threads, whole = options.threads, options.whole
    for trial, agreed in verify(study, store, conditions, workers, threads=threads, whole=whole):
        seen += 1
        differing += not agreed
        print(f"{'agrees' if agreed else 'DIFFERS'}  {trial.id}  {trial.label()}", flush=True)
    print(f"{seen} stale records trained again: {seen - differing} agree, {differing} differ")
    _say_problems(store)
    return 1 if differing else 0


def _search(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _as_interrupt)
    import torch

    from nos_repro.experiments.settings_file import find_config
    from nos_repro.launch.run import conditions_of, launcher_of, worker_count
    from nos_repro.search.hall import export_study
    from nos_repro.search.run import confirm, dry_run, folder_of, run_search, train_refused
    from nos_repro.search.settings import load_search

    _check_results(options.results)
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
    workers = max(1, worker_count(options.workers, options.threads))
    torch.set_num_threads(1)  # the controller's; a replay repeats its sums bit for bit
    if options.dry_run:
        print(dry_run(search, conditions, workers))
        return 0
    launcher = launcher_of(options.workers, options.threads)
    if options.confirm:
        confirm(search, options.results, launcher, conditions)
    elif options.train_refused is not None:
        train_refused(search, options.results, options.train_refused, launcher, conditions)
    else:
        run_search(search, options.results, launcher, conditions, workers)
    return 0


def _rule(options: argparse.Namespace) -> int:
    from nos_repro.rules.explain import explain

    print(explain(options.rule))
    return 0


def _export(options: argparse.Namespace) -> int:
    from nos_repro.optim.export import export

    print(export(options.rule, options.name), end="")
    return 0


def _translate(options: argparse.Namespace) -> int:
    from nos_repro.data import data_folder
    from nos_repro.experiments.trained import load_trained
    from nos_repro.tasks.gnmt import GNMT, TranslationData

    task, data = load_trained(options.checkpoint, data_folder(options.data))
    if not isinstance(task, GNMT) or not isinstance(data, TranslationData):
        raise ConfigError(f"{options.checkpoint} is a checkpoint of no GNMT")
    lines = options.text or sys.stdin.read().splitlines()
    print("\n".join(task.translate_lines(lines, data.pieces)))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from nos_repro.bench import list_benchmarks, run_benchmarks

    if options.list:
        print("\n".join(list_benchmarks()))
        return 0
    return run_benchmarks(options.names, options.results)


def _say_problems(store: Store) -> None:
    for problem in store.problems:
        print(f"warning: {problem}", file=sys.stderr)


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM stops a run the way Ctrl-C does: every running trial saves its state."""
    raise KeyboardInterrupt
