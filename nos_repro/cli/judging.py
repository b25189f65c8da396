"""The verbs that judge what is on record: verdicts, claims, why, recheck."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from functools import partial
from typing import TYPE_CHECKING

from nos_repro.cli.common import (
    Verbs,
    add_verb,
    data_argument,
    format_argument,
    open_study,
    overrides_argument,
    print_document,
    reads,
    results_argument,
    scale_argument,
    study_arguments,
    threads_argument,
    trust_argument,
    warn_of,
)
from nos_repro.cli.terminal import check_results, place
from nos_repro.errors import ConfigError, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nos_repro.experiments.schema import Study
    from nos_repro.experiments.selection import Outcome
    from nos_repro.experiments.store import Store
    from nos_repro.report.claims.listed import Claim
    from nos_repro.report.claims.results import Results


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "verdicts", verdicts,
                      "compare each cell with the paper's number: reproduced or not",
                      "verdicts configs/table2.yaml --format markdown")  # fmt: skip
    study_arguments(parser)
    format_argument(parser, "markdown", "latex")
    _add_claims(verbs)

    parser = add_verb(verbs, "why", why, "show which trials a row's number comes from, and why",
                      "why 'table2:PowerSign (cosine)' --scale small")  # fmt: skip
    _cell_arguments(parser)
    format_argument(parser)

    parser = add_verb(verbs, "recheck", recheck,
                      "evaluate a row's stored checkpoints again: PASS or FAIL",
                      "recheck 'table2:PowerSign (cosine)' --scale small",
                      "recheck my_study.yaml:Adam --retrain")  # fmt: skip
    _cell_arguments(parser)
    parser.add_argument("--retrain", action="store_true", help="train from the start instead")
    data_argument(parser)
    threads_argument(parser)


def _add_claims(verbs: Verbs) -> None:
    parser = add_verb(verbs, "claims", claims,
                      "show what the papers claim in words and what the records say",
                      "claims", "claims convnet-beats-sgd --scale small", "claims --plan 10",
                      "claims my_study.yaml --file my_claims.yaml")  # fmt: skip
    parser.add_argument("overrides", nargs="*", default=[], metavar="CLAIM|CONFIG",
                        help="one claim, shown in full; with --file, the files (ending in .yaml) of"
                        " your own studies and searches that it is about")  # fmt: skip
    parser.add_argument("--file", type=place, metavar="FILE",
                        help="claims of your own instead of the papers', as in"
                        " nos_repro/report/claims/claims.yaml")  # fmt: skip
    parser.add_argument("--scale", help="only at this scale (default: at every one but smoke)")
    format_argument(parser, "markdown", "latex")
    parser.add_argument("--plan", type=float, metavar="HOURS",
                        help="say which runs would decide the most claims in so many core-hours, by"
                        " the spread seen so far")  # fmt: skip
    parser.add_argument("--write", action="store_true",
                        help="also write claims.md into the results folder")  # fmt: skip
    results_argument(parser)
    trust_argument(parser)


def _cell_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL", help="e.g. 'table2:PowerSign (cosine)'")
    overrides_argument(parser, "settings that override the study's; +rows.NAME={optimizer: ...}"
                       " adds a row")  # fmt: skip
    scale_argument(parser)
    results_argument(parser)


@reads
def verdicts(options: argparse.Namespace) -> int:
    from nos_repro.experiments.selection import outcomes
    from nos_repro.report.study.precision import precision_notes, precision_tests
    from nos_repro.report.study.verdict import judge_study
    from nos_repro.report.study.verdict_table import verdict_table

    study, store = open_study(options)
    rows = outcomes(study, store)
    cells = judge_study(study, rows)
    if options.format == "json":
        from nos_repro.report.documents.study import verdicts_document

        tests = precision_tests(study, rows, store)
        print_document(verdicts_document(study, cells, tests))
    else:
        table = verdict_table(study, cells, precision_notes(study, rows, store))
        print(getattr(table, options.format)())
    warn_of(store.problems)
    return 0


def _plan(options: argparse.Namespace, found: Results, ours: Sequence[Claim] | None) -> None:
    from nos_repro.report.claims.judge import judge_claims
    from nos_repro.report.claims.plan import plan_of, plan_table
    from nos_repro.report.documents.claims import plan_document

    judged = judge_claims(found, scale=options.scale, only=ours)
    plan = plan_of(judged, found, options.plan)
    if options.format == "json":
        print_document(plan_document(plan))
    else:
        print(getattr(plan_table(plan), options.format)())


@reads
def claims(options: argparse.Namespace) -> int:
    from nos_repro.experiments.files import write_atomically
    from nos_repro.experiments.settings_file import named
    from nos_repro.report.claims.judge import judge_claims, own_claims
    from nos_repro.report.claims.listed import beyond, find_claim
    from nos_repro.report.claims.page import (
        TITLE,
        claim_tables,
        claims_file,
        claims_tables,
        claims_text,
    )
    from nos_repro.report.claims.results import Results
    from nos_repro.report.documents.claims import claims_document

    check_results(options.results)
    configs = [word for word in options.overrides if word.endswith((".yaml", ".yml"))]
    wanted = [word for word in options.overrides if word not in configs]
    if len(wanted) > 1:
        raise ConfigError(f"one CLAIM at a time, not {len(wanted)}; a CONFIG ends in .yaml")
    if configs and options.file is None:
        raise ConfigError("CONFIG is for the claims of --file; the papers' are about what ships")
    if options.plan is not None and not (options.plan > 0 and not wanted and not options.write):
        raise ConfigError("--plan takes a positive number of hours, and neither CLAIM nor --write")
    if options.write and (wanted or options.scale or options.file):
        raise ConfigError(
            "--write is for the papers' whole list; leave out CLAIM, --scale and --file"
        )
    found = Results(options.results, named(configs), options.trust)
    ours, title = None, TITLE
    if options.file is not None:
        ours = own_claims(options.file, found)
        title = f"What {options.file.name} claims, and what the records say of it"
    if options.scale is not None:
        found.check_scale(options.scale)
    if options.plan is not None:
        _plan(options, found, ours)
    elif wanted:
        only = [find_claim(wanted[0], ours)]
        listed = judge_claims(found, scale=options.scale, only=only)
        if options.format == "json":
            print_document(claims_document(listed, []))
        else:
            tables = claim_tables(listed[0])
            print("\n\n".join(getattr(table, options.format)() for table in tables))
    else:
        if options.format == "text":
            print(title, flush=True)  # judging reads every study
        listed = judge_claims(found, scale=options.scale, only=ours)
        further = beyond() if ours is None else ()
        more = judge_claims(found, scale=options.scale, only=further)
        if options.format == "json":
            print_document(claims_document(listed, more))
        elif options.format == "text":
            print(claims_text(listed, more))
        else:
            tables = claims_tables(listed, more, title)
            print("\n\n".join(getattr(table, options.format)() for table in tables))
        if options.write:
            path = options.results / "claims.md"
            write_atomically(path, claims_file(listed, more))
            print(f"wrote {path}", file=sys.stderr)
    warn_of(found.problems)
    return 0


def _cell(options: argparse.Namespace) -> tuple[Study, Outcome, Store]:
    """`table2:PowerSign (cosine)`: the study, its row, and its records. In a study that halves its
    rows all of them are read, because they race."""
    from nos_repro.experiments.selection import outcome

    options.config, colon, row = options.cell.partition(":")
    options.rows = []
    if not colon or not row.strip():
        raise ConfigError(
            f"{options.cell or '(empty)'}: name a study and a row, e.g. 'table2:PowerSign (cosine)'"
        )
    study, store = open_study(options)
    if row not in study.rows:
        raise ConfigError(unknown("row", row, study.rows))
    return study, outcome(study, row, store), store


@reads
def why(options: argparse.Namespace) -> int:
    from nos_repro.report.study.why import explain, why_text

    study, outcome, store = _cell(options)
    found = explain(study, outcome, store)
    if options.format == "json":
        from nos_repro.report.documents.study import why_document

        print_document(why_document(found))
    else:
        print(why_text(found))
    return 0


def recheck(options: argparse.Namespace) -> int:
    import torch

    from nos_repro.launch.recheck import lines
    from nos_repro.launch.recheck import recheck as checks
    from nos_repro.launch.run import conditions_of, prepare_data, worker_count
    from nos_repro.launch.work import keep_freed_memory

    worker_count(None, options.threads)  # what it says of a wrong number
    study, outcome, store = _cell(options)
    alone = dataclasses.replace(study.device, shard=False)  # checkpoints are whole
    conditions = conditions_of(options.data, 60.0, device=alone)
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    failed = number = 0
    prepare = partial(prepare_data, study, conditions)
    for checked in checks(outcome, store, conditions, prepare, retrain=options.retrain):
        number += 1
        failed += not checked.passed
        print("\n".join(lines(checked)), flush=True)
    kind = "FAIL" if failed else "PASS"
    print(f"{kind}: {number - failed} of {number} trials of {outcome.name} reproduced")
    return 1 if failed else 0
