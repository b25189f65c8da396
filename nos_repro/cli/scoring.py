"""The verb `score`."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from nos_repro.cli.common import (
    Verbs,
    add_verb,
    data_argument,
    format_argument,
    print_document,
    stop_like_ctrl_c,
)
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.score.cascade import ScoredCandidate, Scorer

INVALID = 3
"""The exit status for a candidate that is not valid; a mistake of the caller's is 2 as ever."""
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "score", score,
                      "score an optimizer that a program proposed, against tuned AdamW and SGD",
                      "score my_optimizer.py --stages 1 --format json",
                      "score 'g * exp(sign(g) * sign(m))' --scale smoke",
                      "score my_optimizer.py --time-limit 600 --dry-run",
                      )  # fmt: skip
    parser.add_argument("candidate", metavar="FILE.py|RULE",
                        help="a file that defines one torch.optim.Optimizer, or"
                        " make_optimizer(params, lr); FILE.py:NAME if it defines several; or a"
                        " rule's text or an optimizer's name")  # fmt: skip
    parser.add_argument("--config", default="optimizers", metavar="FILE",
                        help="what is trained: a scoring file (default: optimizers, which"
                        " ships)")  # fmt: skip
    parser.add_argument("--scale", help="one of the scales in the file (default: the first)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="a setting that overrides the file's, e.g. seeds=5;"
                        " repeatable")  # fmt: skip
    parser.add_argument("--stages", type=int, default=3, choices=(0, 1, 2, 3), metavar="N",
                        help="the last stage, 0 to 3: probes; a perceptron; more tasks; those held"
                        " out (default: 3)")  # fmt: skip
    parser.add_argument("--first", type=int, default=1, choices=(1, 2, 3), metavar="N",
                        help="begin with this stage after the probes (default: 1)")  # fmt: skip
    parser.add_argument("--tasks", default="", metavar="A,B",
                        help="only these tasks of the file")  # fmt: skip
    parser.add_argument("--time-limit", type=float, default=1800.0, metavar="SECONDS",
                        help="for the candidate in all; tuning the baselines, once, does not count"
                        " (default: 1800)")  # fmt: skip
    parser.add_argument("--memory", type=memory, default=4 << 30, metavar="SIZE",
                        help="what the candidate may take besides torch, e.g. 512M"
                        " (default: 4G)")  # fmt: skip
    data_argument(parser)
    parser.add_argument("--dry-run", action="store_true",
                        help="say what would be trained, and about how long it takes")  # fmt: skip
    parser.add_argument("--quiet", action="store_true",
                        help="do not say on the error stream what is being trained")  # fmt: skip
    format_argument(parser)


def memory(text: str) -> int:
    """`512M` as a number of bytes."""
    found = re.fullmatch(r"(\d+)([KMG]?)B?", text.strip(), re.IGNORECASE)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"'{text}': expected a size such as 512M or 4G")
    return int(found[1]) * UNITS[found[2].upper()]


def score(options: argparse.Namespace) -> int:
    stop_like_ctrl_c()
    from nos_repro.score.contract import open_scorer

    stages = list(range(options.first, options.stages + 1))

    def tell(line: str) -> None:
        if not options.quiet:
            print(line, file=sys.stderr, flush=True)

    opened = open_scorer(
        options.config,
        scale=options.scale,
        overrides=options.set,
        tasks=[name for name in options.tasks.split(",") if name],
        time_limit=options.time_limit,
        memory=options.memory,
        data=options.data,
        tell=tell,
    )
    with opened as scorer:
        settings = scorer.settings
        if options.stages and not any(settings.of_stage(stage) for stage in stages):
            raise ConfigError(
                f"--stages {options.stages} --first {options.first}: none of the tasks"
                f" {' '.join(settings.tasks)} is of these stages"
            )
        if options.dry_run:
            from nos_repro.score.estimate import estimate

            print(estimate(scorer, stages))
            return 0
        found = scorer.score(options.candidate, stages)
        if options.format == "json":
            from nos_repro.report.documents.base import document

            print_document(document("score", **scorer.document(found)))
        else:
            print("\n".join(_lines(scorer, found)))
    return 0 if found.valid else INVALID


def _lines(scorer: Scorer, found: ScoredCandidate) -> list[str]:
    """What a person reads."""
    if not found.valid:
        kind = "cheats" if found.cheat else "not valid"
        lines = [f"{found.name}: {kind} ({found.fault}): {found.reason}"]
        return [*lines, *(f"  {line}" for line in found.traceback.splitlines()[-3:])]
    metrics = scorer.metrics(found)
    lines = [f"{found.name}: passed {len(found.probes)} probes"]
    for name, task in found.tasks.items():
        held_out = ", held out" if task.stage == 3 else ""
        stand_in = " (stand-in)" if task.stands_in else ""
        data = f" on {task.data}{stand_in}" if task.data else ""
        edge = ", an edge of the grid" if task.lr_at_edge else ""
        shown = "diverged" if task.test is None else f"{task.test:.4g}"
        others = [
            f"{other} {'diverged' if value is None else f'{value:.4g}'}"
            for other, value in (("AdamW", task.adamw_test), ("SGD", task.sgd_test))
        ]
        lines.append(
            f"  {name} ({task.model}{data}{held_out}): speed-up {task.speedup:.3g}"
            f" (SGD {task.speedup_sgd:.3g}); test {task.metric} {shown} ({', '.join(others)});"
            f" rate {'none' if task.lr is None else f'{task.lr:.3g}'}{edge}"
        )
    if found.stopped:
        lines.append(f"  stopped: {found.stopped}")
    if "combined_score" in metrics:
        lines.append(f"  combined score {metrics['combined_score']:.4g} (AdamW: 1)")
    if "held_out_speedup" in metrics:
        lines.append(f"  held-out speed-up {metrics['held_out_speedup']:.4g}")
    costs = found.costs
    lines.append(
        f"  {found.seconds:.1f} s, {costs.runs} trainings, {costs.steps:,} updates,"
        f" {costs.memory / 2**20:.0f} MiB at most"
    )
    return lines
