"""What a verb says at its end: the commands that come next, on the error stream, so that a table
can be piped."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.cli.terminal import command

if TYPE_CHECKING:
    from nos_repro.experiments.schema import Study
    from nos_repro.experiments.selection import Outcome
    from nos_repro.report.search.history import History


def command_words(options: argparse.Namespace, *, training: bool = False) -> str:
    """The words that name the verb's study or search on a command line; for one that is
    ``training``, where its data are, too."""
    rows = [word for row in getattr(options, "rows", ()) for word in ("--rows", row)]
    data = ["--data", str(options.data)] if training and options.data is not None else []
    return shlex.join([options.config, *_records(options), *data, *options.overrides, *rows])


def _records(options: argparse.Namespace) -> list[str]:
    """The words that say which records are meant."""
    results = [] if options.results == Path("results") else ["--results", str(options.results)]
    return ["--scale", options.scale, *results]


def say_next(commands: Mapping[str, str]) -> None:
    """Prints the commands (what follows the program's name) and what each is for."""
    sys.stdout.flush()
    lines = [f"  {command()} {each}   # {what}" for each, what in commands.items()]
    print("\n".join(["next:", *lines]), file=sys.stderr)


def after_run(options: argparse.Namespace, study: Study, rows: Sequence[Outcome]) -> dict[str, str]:
    """What may come after training: what is left, the page, the best rule as a file."""
    words, training = command_words(options), command_words(options, training=True)
    commands = {}
    if any(row.failed for row in rows):
        commands[f"status {words}"] = "what failed, and where its log is"
        commands[f"run {training} --retry"] = "once it is mended, trains it again"
    elif any(row.missing for row in rows):
        commands[f"run {training}"] = "trains what is missing"
    commands[f"report {words} --html {study.study}.html"] = "the table and curves on a page"
    exported = _exported(study, rows)
    if exported is not None:
        commands[f"export {shlex.quote(exported)} > best_rule.py"] = (
            "the best rule as one file that needs torch alone"
        )
    return commands


def after_report(
    options: argparse.Namespace, study: Study, rows: Sequence[Outcome]
) -> dict[str, str]:
    """What may come after a look at a study."""
    if any(row.missing for row in rows):
        return {f"run {command_words(options)}": "trains what is missing"}
    cell = [f"{options.config}:{rows[0].name}", *_records(options), *options.overrides]
    return {f"why {shlex.join(cell)}": "where a row's number comes from"}


def after_search_report(options: argparse.Namespace, history: History) -> dict[str, str]:
    """What may come after a look at a search."""
    words = command_words(options)
    if not history.finished:
        return {f"search {words}": "goes on with the search"}
    if not history.of("confirm"):
        return {f"search {words} --confirm": "the best rules and the baselines over fresh seeds"}
    return {f"search {words} --export-best 12": "a study that trains the best rules longer"}


def _exported(study: Study, rows: Sequence[Outcome]) -> str | None:
    """How `export` names the rule of the best complete row that has one."""
    from nos_repro.optim.lookup import find_optimizer
    from nos_repro.tasks.registry import find_metric

    by, sign = study.selection.by, find_metric(study.task["name"]).sign
    best: dict[str, float] = {}
    for row in rows:
        number, found = row.number(by), find_optimizer(row.row.optimizer)
        rule = found.rule_with(row.row.options)
        if number is None or rule is None or found.registered or row.missing:
            continue
        name = row.row.optimizer if not row.row.options else f"rule: {rule}"
        best[name] = max(sign * number.mean, best.get(name, float("-inf")))
    return max(best, key=lambda name: best[name]) if best else None
