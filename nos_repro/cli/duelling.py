"""The verb duel: two rows of a study against each other."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from typing import TYPE_CHECKING

from nos_repro.cli.closing import command_words, say_next
from nos_repro.cli.common import (
    ADDED_ROW,
    Verbs,
    add_verb,
    file_arguments,
    find_settings,
    format_argument,
    machine_arguments,
    print_document,
    stop_like_ctrl_c,
    training_arguments,
    wandb_argument,
    warn_of,
)
from nos_repro.cli.terminal import check_results
from nos_repro.cli.tracking import saying_how_to_sync, tracker_of
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.launch.duel.contest import Duel
    from nos_repro.launch.duel.standing import DuelOutcome

TIME = re.compile(r"(\d+\.?\d*|\.\d+)\s*(h|min|m)?")


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "duel", duel,
                      "decide which of two rows is better: both tuned alike, then as many seeds as"
                      " it takes",
                      "duel PowerSign Adam table2 --scale small --budget 2h",
                      "duel torch.optim.AdamW SGD table2 --scale small --seeds 20",
                      "duel 'g * exp(m)' Adam table5 --scale small --budget 3h",
                      )  # fmt: skip
    for name in ("one", "other"):
        parser.add_argument(name, metavar=name.upper(),
                            help="a row of the study, or an optimizer's name or rule in a row's"
                            " place")  # fmt: skip
    file_arguments(parser, "a study file, e.g. configs/table2.yaml", f"task.width=2; {ADDED_ROW}")
    machine_arguments(parser)
    parser.add_argument("--budget", type=hours, metavar="TIME",
                        help="hours of cores (or GPUs) that all its trials may take: 2h, 30min, or"
                        " a number of hours")  # fmt: skip
    parser.add_argument("--seeds", type=int, metavar="N", help="the most pairs of seeds")
    parser.add_argument("--margin", type=float, metavar="D",
                        help="in the column's unit: a difference that is certainly no larger counts"
                        " as none")  # fmt: skip
    parser.add_argument("--column", metavar="COLUMN",
                        help="what is compared (default: the study's first column on test"
                        " data)")  # fmt: skip
    parser.add_argument("--like", metavar="ROW",
                        help="the row whose place an optimizer takes, with its schedule and grid"
                        " (default: the other side, or the first row)")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="estimate the hours")
    parser.add_argument("--probe", action="store_true",
                        help="with launcher=slurm and --dry-run or --budget: time a few updates in"
                        " a short job on the cluster")  # fmt: skip
    training_arguments(parser)
    wandb_argument(parser, "each trial as a run")
    format_argument(parser)


def hours(text: str) -> float:
    """`2h`, `30min`, `1.5`: hours."""
    found = TIME.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 2h or 30min, got {text!r}")
    return float(found[1]) / (60 if found[2] in ("min", "m") else 1)


def duel(options: argparse.Namespace) -> int:
    stop_like_ctrl_c()
    from nos_repro.experiments.store import Store
    from nos_repro.launch.cost import unit_of
    from nos_repro.launch.duel.forecast import check_affordable, forecast, forecast_text
    from nos_repro.launch.duel.run import batch_of, run_duel
    from nos_repro.launch.run import conditions_of, launcher_of, trial_seconds
    from nos_repro.launch.settings import launcher_settings
    from nos_repro.report.documents.duel import duel_document
    from nos_repro.report.study.duels import duel_text, write_duel

    asked = _asked(options)
    study = asked.study
    store = Store(options.results, study.study, study.scale)
    settings = launcher_settings(study.launcher)
    conditions = conditions_of(options.data, options.checkpoint_seconds, settings, study.device)
    batch = batch_of(settings, options.workers, options.threads)
    probe = options.probe
    if probe and not options.dry_run and options.budget is None:
        raise ConfigError("--probe goes with --dry-run or --budget")
    if options.dry_run or options.budget is not None:
        known = forecast(asked, store, conditions, settings, options.threads, probe=probe)
        check_affordable(asked, known)
        if options.dry_run:
            print(forecast_text(asked, known))
            return 0
    launcher = launcher_of(
        settings,
        store.root,
        study.study,
        lambda: trial_seconds(study, conditions),
        workers=options.workers,
        threads=options.threads,
    )
    tracker = tracker_of(options.wandb, options.wandb_artifacts, study, store.root)
    with saying_how_to_sync(options.wandb, store.root):
        found = run_duel(
            asked, store, launcher, conditions, unit_of(settings, options.threads),
            batch=batch, retry=options.retry, tracker=tracker,
        )  # fmt: skip
    document = duel_document(found)
    path = write_duel(asked, document, store.root)
    if options.format == "json":
        print_document(document)
    else:
        print(duel_text(document))
    print(f"wrote {path}", file=sys.stderr)
    warn_of(store.problems)
    say_next(_after(options, found))
    return 1 if found.ended in ("failed", "not finished") else 0


def _asked(options: argparse.Namespace) -> Duel:
    from nos_repro.launch.duel.contest import DuelLimits, load_duel

    check_results(options.results)
    limits = DuelLimits(options.seeds, options.budget)
    return load_duel(
        find_settings(options),
        options.one,
        options.other,
        limits,
        scale=options.scale,
        overrides=options.overrides,
        like=options.like,
        column=options.column,
        margin=options.margin,
    )


def _after(options: argparse.Namespace, found: DuelOutcome) -> dict[str, str]:
    """What may come next: what failed, more seeds, the table."""
    words, training = command_words(options), command_words(options, training=True)
    again = f"duel {shlex.join([options.one, options.other])} {training}"
    again += _given(options, "column", "margin", "like")
    commands = {}
    if found.ended in ("failed", "not finished"):
        limits = _given(options, "seeds", "budget")
        retry = " --retry" if found.ended == "failed" else ""
        commands[f"{again}{limits}{retry}"] = "goes on from here"
    more = found.judgement.more
    if found.ended in ("seeds", "budget") and more is not None:
        seeds = found.judgement.pairs + more
        commands[f"{again} --seeds {seeds}"] = "would decide, were mean and spread to stay"
    commands[f"report {words}"] = "the study's table, with its duels"
    return commands


def _given(options: argparse.Namespace, *names: str) -> str:
    """The options of those names that were given, as words that follow others."""
    given = ((name, getattr(options, name)) for name in names)
    words = [word for name, value in given if value is not None for word in (f"--{name}", value)]
    return "".join(f" {shlex.quote(str(word))}" for word in words)
