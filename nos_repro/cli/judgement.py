"""The verbs that judge what is on record: verdicts, claims, why, recheck; and what a run costs."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from nos_repro.cli.reading import reads
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions
    from nos_repro.experiments.estimate import Cost
    from nos_repro.experiments.schema import Study
    from nos_repro.experiments.selection import Outcome
    from nos_repro.experiments.store import Store
    from nos_repro.launch.settings import LauncherSettings
    from nos_repro.report.claims.results import Results


@reads
def verdicts(options: argparse.Namespace) -> int:
    from nos_repro.cli.verbs import open_study, say_problems
    from nos_repro.experiments.selection import outcomes
    from nos_repro.report.study.verdict import judge_study
    from nos_repro.report.study.verdict_table import verdict_table

    study, store = open_study(options)
    table = verdict_table(study, judge_study(study, outcomes(study, store)))
    print(getattr(table, options.format)())
    say_problems(store)
    return 0


@reads
def claims(options: argparse.Namespace) -> int:
    from nos_repro.cli.verbs import check_results
    from nos_repro.experiments.files import write_atomically
    from nos_repro.report.claims.judge import judge_claims, own_claims
    from nos_repro.report.claims.listed import find_claim
    from nos_repro.report.claims.page import (
        TITLE,
        claim_tables,
        claims_file,
        claims_table,
        claims_text,
    )

    check_results(options.results)
    configs = [word for word in options.overrides if word.endswith((".yaml", ".yml"))]
    wanted = [word for word in options.overrides if word not in configs]
    if len(wanted) > 1:
        raise ConfigError(f"one CLAIM at a time, not {len(wanted)}; a CONFIG ends in .yaml")
    if configs and options.file is None:
        raise ConfigError("CONFIG is for the claims of --file; the papers' are about what ships")
    if options.write and (wanted or options.scale or options.file):
        raise ConfigError(
            "--write is for the papers' whole list; leave out CLAIM, --scale and --file"
        )
    found = claim_results(options, *configs)
    ours, title = None, TITLE
    if options.file is not None:
        ours = own_claims(options.file, found)
        title = f"What {options.file.name} claims, and what the records say of it"
    if options.scale is not None:
        found.check_scale(options.scale)
    if wanted:
        only = [find_claim(wanted[0], ours)]
        (judged,) = judge_claims(found, scale=options.scale, only=only)
        tables = claim_tables(judged)
        print("\n\n".join(getattr(table, options.format)() for table in tables))
    else:
        listed = judge_claims(found, scale=options.scale, only=ours)
        table = claims_table(listed, title)
        text = options.format == "text"
        print(claims_text(listed, title) if text else getattr(table, options.format)())
        if options.write:
            path = options.results / "claims.md"
            write_atomically(path, claims_file(listed))
            print(f"wrote {path}", file=sys.stderr)
    for problem in found.problems:
        print(f"warning: {problem}", file=sys.stderr)
    return 0


def claim_results(options: argparse.Namespace, *own: str) -> Results:
    """The results folder. ``own`` are files of studies and searches beside those that ship."""
    from nos_repro.experiments.settings_file import named
    from nos_repro.report.claims.results import Results

    return Results(options.results, named(own))


def _cell(options: argparse.Namespace) -> tuple[Study, Outcome, Store]:
    from nos_repro.cli.verbs import check_results
    from nos_repro.experiments.cell import find_cell
    from nos_repro.experiments.selection import outcome
    from nos_repro.experiments.store import Store
    from nos_repro.report.figures.base import figure_of

    check_results(options.results)
    cell = find_cell(
        options.cell, scale=options.scale, overrides=options.overrides, check=figure_of
    )
    store = Store(options.results, cell.study.study, cell.study.scale)
    return cell.study, outcome(cell.study, cell.row, store), store


@reads
def why(options: argparse.Namespace) -> int:
    from nos_repro.report.study.why import explain, why_text

    study, outcome, store = _cell(options)
    print(why_text(explain(study, outcome, store)))
    return 0


def recheck(options: argparse.Namespace) -> int:
    import torch

    from nos_repro.launch.recheck import lines
    from nos_repro.launch.recheck import recheck as checks
    from nos_repro.launch.run import conditions_of, prepare_data, worker_count
    from nos_repro.launch.work import keep_freed_memory

    worker_count(None, options.threads)  # what it says of a wrong number
    study, outcome, store = _cell(options)
    conditions = conditions_of(options.data, 60.0)
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    failed = number = 0
    prepare = partial(prepare_data, study, conditions)
    for checked in checks(outcome, store, conditions, prepare, retrain=options.retrain):
        number += 1
        failed += not checked.passed
        print("\n".join(lines(checked)), flush=True)
    kind = "FAIL" if failed else "PASS"
    print(f"{kind}: {number - failed} of {number} trials of {outcome.name} come out again")
    return 1 if failed else 0


def rows_within_budget(
    options: argparse.Namespace,
    study: Study,
    store: Store,
    conditions: Conditions,
    settings: LauncherSettings,
) -> tuple[Study, dict[str, Cost]]:
    """The study with the rows alone that fit `--budget`, and the costs by which they were chosen;
    says which those are."""
    from nos_repro.launch.cost import check_budget, unit_of, within_budget
    from nos_repro.launch.run import prepare_data

    check_budget(study, options.budget)
    prepare_data(study, conditions)
    unit = unit_of(settings, options.threads)
    some, costs = within_budget(study, store, conditions, options.budget, unit, options.threads)
    count = f"{len(some.rows)} of {len(study.rows)} rows fit {options.budget:g} {unit.name}"
    print(f"{count}: {'; '.join(some.rows)}", file=sys.stderr)
    options.rows = list(some.rows)  # what a command that goes on from here has to name
    return some, costs


def say_what_it_took(
    study: Study, store: Store, costs: dict[str, Cost], settings: LauncherSettings, threads: int
) -> None:
    """Predicted against actual, of the rows that were run."""
    from nos_repro.experiments.estimate import plan
    from nos_repro.launch.cost import accuracy_lines, row_costs, unit_of

    rows = row_costs(plan(study, store), costs, store)
    print("\n".join(accuracy_lines(rows, unit_of(settings, threads))))
