"""What the command line understands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from nos_repro.cli import judgement as judges
from nos_repro.cli import reporting
from nos_repro.cli import tracking_verbs as tracks
from nos_repro.cli import verbs as does


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nos-repro",
        description="Reproduce, use and search the optimizers of 'Neural Optimizer Search with"
        " Reinforcement Learning' (Bello et al., 2017).",
        epilog="example: python -m nos_repro run configs/table2.yaml --scale smoke",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    run = _verb(
        verbs, "run", does.run, "train the trials of a study that have no record, print its table"
    )
    _study_arguments(run)
    _machine_arguments(run)
    run.add_argument("--retry", action="store_true", help="try the trials that failed again")
    run.add_argument("--dry-run", action="store_true", help="list the trials, estimate the hours;"
                     " with launcher=slurm print the sbatch script too")  # fmt: skip
    run.add_argument("--budget", type=float, metavar="HOURS",
                     help="only the rows that fit so many hours of cores (or GPUs), the cheapest"
                     " first; afterwards, what they took")  # fmt: skip
    run.add_argument("--detach", action="store_true",
                     help="with launcher=slurm: come back once the jobs are queued")  # fmt: skip
    _wandb_argument(run, "each trial as a run")
    run.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S",
                     help="time between checkpoints of a trial (default 60)")  # fmt: skip

    report = _verb(
        verbs,
        "report",
        reporting.report,
        "the table of a study, or the report of a search, so far; or of all of them",
    )
    report.add_argument("overrides", nargs="*", default=[], metavar=("CONFIG", "KEY=VALUE"),
                        help="a study's or search's file, and settings laid over it;"
                        " +rows.NAME={optimizer: ...} adds a row")  # fmt: skip
    report.add_argument("--scale", help="one of the scales in the file (default: paper)")
    _results_argument(report)
    _rows_argument(report)
    _format_argument(report)
    report.add_argument("--all", action="store_true",
                        help="every study and search that has records, at every scale: a line each;"
                        " each CONFIG is one of your own, beside those that ship")  # fmt: skip
    report.add_argument("--claims", type=Path, metavar="FILE",
                        help="with --all: claims of your own beside the papers'")  # fmt: skip
    report.add_argument("--write", action="store_true",
                        help="also write tables and figure beside the records; with --all also the"
                        " claims")  # fmt: skip
    report.add_argument("--html", type=Path, metavar="FILE.html|DIR",
                        help="also write a self-contained HTML page; in a folder its name is"
                        " STUDY-SCALE.html. With --all a folder: index.html, and a page a study and"
                        " search")  # fmt: skip

    status = _verb(verbs, "status", does.status, "what has ended, what runs, what is missing")
    _study_arguments(status)

    cancel = _verb(
        verbs, "cancel", does.cancel, "take what this study or search has queued off the cluster"
    )
    _file_arguments(cancel, "a study's or search's file, e.g. configs/table2.yaml", "samples=100")
    cancel.set_defaults(rows=[])  # a job may hold trials of several rows: all of the study go

    verify = _verb(
        verbs,
        "verify",
        does.verify,
        "train stale records' trials again up to their first evaluation",
    )
    _study_arguments(verify)
    _machine_arguments(verify)
    verify.add_argument("--whole", action="store_true", help="train them to their end")

    verdicts = _verb(
        verbs, "verdicts", judges.verdicts, "say of each cell whether the paper's number came out"
    )
    _study_arguments(verdicts)
    _format_argument(verdicts)

    claims = _verb(
        verbs, "claims", judges.claims, "what the papers claim in words, and what the records say"
    )
    claims.add_argument("overrides", nargs="*", default=[], metavar="CLAIM|CONFIG",
                        help="one of them, in full; the files, ending in .yaml, of the studies and"
                        " searches of your own that --file speaks of")  # fmt: skip
    claims.add_argument("--file", type=Path, metavar="FILE", help="claims of your own instead of"
                        " the papers', as in nos_repro/report/claims/claims.yaml")  # fmt: skip
    claims.add_argument("--scale", help="only at this scale (default: at every one but smoke)")
    _format_argument(claims)
    claims.add_argument("--write", action="store_true",
                        help="also write claims.md into the folder of the results")  # fmt: skip
    _results_argument(claims)

    why = _verb(verbs, "why", judges.why, "which trials a row's number comes from, and why those")
    _cell_arguments(why)

    recheck = _verb(
        verbs, "recheck", judges.recheck, "evaluate a row's stored checkpoints again: PASS or FAIL"
    )
    _cell_arguments(recheck)
    recheck.add_argument("--retrain", action="store_true", help="train from the start instead")
    recheck.add_argument("--data", type=Path, metavar="DIR", help="where the data sets lie")
    recheck.add_argument("--threads", type=int, default=1, metavar="N", help="cores (default: 1)")

    search = _verb(verbs, "search", does.search, "search for update rules, or go on with a search")
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
    _wandb_argument(search, "the search as one run")

    dashboard = _verb(
        verbs, "dashboard", tracks.dashboard, "a study's or search's W&B workspace and report"
    )
    _file_arguments(
        dashboard, "a study's or search's file, e.g. configs/table2.yaml", "samples=100"
    )
    dashboard.add_argument("--push", action="store_true", help="save it online, instead of printing"
                           " it; needs `wandb login`")  # fmt: skip
    dashboard.add_argument("--entity", help="whose project (default: W&B's for this login)")
    dashboard.add_argument("--project", help="which (default: $WANDB_PROJECT, else nos_repro)")
    dashboard.add_argument("--output", type=Path, metavar="FILE", help="write it there instead")

    rule = _verb(verbs, "rule", does.rule, "explain an update rule, by its text or its name")
    rule.add_argument("rule", metavar="RULE", help="e.g. 'exp(sign(g)*sign(m)) * g', or powersign")

    export = _verb(
        verbs, "export", does.export, "write an update rule as one file that needs torch alone"
    )
    export.add_argument("rule", metavar="RULE", help="as for the verb rule, or 'rule: TEXT'")
    export.add_argument("--name", metavar="NAME", help="of the class (default: by the rule)")

    translate = _verb(
        verbs, "translate", does.translate, "translate lines of text by a trained GNMT"
    )
    translate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT",
                           help="a trial's checkpoint.pt, or its folder")  # fmt: skip
    translate.add_argument("text", nargs="*", metavar="TEXT",
                           help="a sentence each (default: standard input's lines)")  # fmt: skip
    translate.add_argument("--data", type=Path, metavar="DIR",
                           help="where the text lies that the model was trained on")  # fmt: skip

    generate = _verb(
        verbs, "generate", does.generate, "write on, word by word, by a trained language model"
    )
    generate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT",
                          help="a trial's checkpoint.pt, or its folder")  # fmt: skip
    generate.add_argument("text", nargs="?", default="", metavar="TEXT",
                          help="what to go on from, words divided by blanks")  # fmt: skip
    generate.add_argument("--words", type=int, default=60, metavar="N", help="how many (60)")
    generate.add_argument("--temperature", type=float, default=1.0, metavar="T",
                          help="0: the likeliest word; 1 (default): drawn as it is")  # fmt: skip
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (0)")
    generate.add_argument("--data", type=Path, metavar="DIR",
                          help="where the text lies that the model was trained on")  # fmt: skip

    bench = _verb(
        verbs, "bench", does.bench, "run the repository's benchmarks (ratios, interleaved)"
    )
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
                        help=f"settings laid over the file's, e.g. {override};"
                        " +rows.NAME={optimizer: ...} adds a row to a study")  # fmt: skip
    parser.add_argument(
        "--scale", default="paper", help="one of the scales in the file (default: paper)"
    )
    _results_argument(parser)


def _format_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "markdown", "latex"), default="text")


def _cell_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL", help="e.g. 'table2:PowerSign (cosine)'")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE",
                        help="settings laid over the study's; +rows.NAME={optimizer: ...}"
                        " adds a row")  # fmt: skip
    parser.add_argument(
        "--scale", default="paper", help="one of the scales in the file (default: paper)"
    )
    _results_argument(parser)


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    _file_arguments(parser, "a study file, e.g. configs/table2.yaml", "task.width=2")
    _rows_argument(parser)


def _rows_argument(parser: argparse.ArgumentParser) -> None:
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


def _wandb_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--wandb", choices=("off", "auto", "offline", "online"), default="off",
                        help=f"follow {what} of W&B; auto: online when logged in, else offline"
                        " (default: off)")  # fmt: skip


def _results_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR",
                        help="where records are kept (default: results)")  # fmt: skip
