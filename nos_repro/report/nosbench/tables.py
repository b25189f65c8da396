"""What a table of rules says, as printed tables."""

from __future__ import annotations

import math

from nos_repro.report.layout import Cell, Column, ReportTable
from nos_repro.search.table.analysis import SHORTLIST, Analysis, TaskSummary
from nos_repro.search.table.measures import RESAMPLES, Estimate


def nosbench_tables(found: Analysis) -> list[ReportTable]:
    """The tasks, what the cheap ones foretell, the seeds' luck, and the best rules of each task."""
    tables = [_tasks(found)]
    if found.predictions:
        tables.append(_predictions(found))
    if found.luck:
        tables.append(_luck(found))
    return [*tables, *(_best(task) for task in found.tasks)]


def _tasks(found: Analysis) -> ReportTable:
    table, refused = found.table, found.refused
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in refused.items())
    rows = [
        [
            task.task,
            f"{_seeds(task.whole)}" + (f" (part: {_seeds([*task.partly])})" * bool(task.partly)),
            f"{task.rows:,}",
            f"{100 * task.healthy:.1f} %",
            f"{task.statuses.get('diverged', 0):,}",
            f"{task.statuses.get('overran', 0) + task.statuses.get('failed', 0):,}",
            f"{task.seconds:.2g}",
            f"{task.rows * task.seconds / 3600:.2g}",
        ]
        for task in found.tasks
    ]
    return _table(
        [
            f"NOS-Bench {table.name}, scale {table.packed.settings['scale']}: {table.space.size:,}"
            f" strings, {len(table.rules):,} distinct rules; the probes refuse"
            f" {sum(refused.values()):,} ({reasons or 'none'})"
        ],
        ["task", "seeds of all rules", "rows", "healthy", "diverged", "overran or failed",
         "s per child", "worker-hours"],
        rows,
    )  # fmt: skip


def _seeds(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"


def _predictions(found: Analysis) -> ReportTable:
    rows = [
        [
            each.cheap,
            each.dear,
            f"{each.whole.n:,}",
            shown(each.whole),
            shown(each.quarter),
            f"{each.shared} of {SHORTLIST}",
            f"{each.lost:.4f}",
        ]
        for each in found.predictions
    ]
    return _table(
        ["How well a cheap task orders rules as an expensive one does: Kendall's tau-b, with its"
         " 95 % interval"],
        ["cheap", "expensive", "rules", "tau over all", "tau in the expensive task's best quarter",
         f"best {SHORTLIST} shared", "lost by its shortlist"],
        rows,
        ["Lost by its shortlist: the expensive task's best reward, less that of the best of the"
         f" {SHORTLIST} rules that the cheap task would hand on. One seed per task is compared.",
         *_partly_trained(found),
         f"Intervals: {RESAMPLES} bootstrap resamples of the rules."],
    )  # fmt: skip


def _partly_trained(found: Analysis) -> list[str]:
    """Which rules stand for all where an expensive task has not trained all of them."""
    dear = {each.dear for each in found.predictions}
    names = [task.task for task in found.tasks if task.task in dear and not task.whole]
    if not names:
        return []
    return [
        f"No seed of {', '.join(names)} has trained every rule, and the rules that are there are no"
        " random draw: mostly the best ones, which are harder to order, where the table's file asks"
        " for these; while the table is being made, the first by number, which more strings write."
    ]


def _luck(found: Analysis) -> ReportTable:
    rows = [
        [
            each.task,
            _seeds(each.seeds),
            f"{each.share.n:,}",
            shown(each.share, percent=True),
            shown(each.quarter, percent=True),
            "-" if math.isnan(each.deviation) else f"{each.deviation:.4f}",
            shown(each.agreement),
            "" if each.regret is None else f"{each.regret.regret:.4f}",
            "" if each.regret is None else f"{each.regret.chosen_by - each.regret.judged:.4f}",
        ]
        for each in found.luck
    ]
    return _table(
        ["How much of a reward is the seed's luck: of the variance, with its 95 % interval"],
        ["task", "seeds", "rules", "luck", "luck in the best quarter", "seed's sd",
         "tau of two seeds", "regret", "flattery"],
        rows,
        ["Rules that are healthy with every seed; what a seed does to all of them alike is no luck"
         " here. The first seed chooses the best quarter, the"
         " others measure it; where it also chose which rules the others train, it measures"
         " nothing. Regret: the best mean of the other seeds, less"
         " theirs of the rule that one seed chooses; it is an upper bound, since that best is"
         " lucky too. Flattery: that rule's reward by the seed that chose it, less its mean by the"
         " others."],
    )  # fmt: skip


def _best(task: TaskSummary) -> ReportTable:
    rows = [
        [
            each.rule,
            f"{each.reward:.4f}",
            " ".join(f"{reward:.4f}" for reward in each.rewards.values()),
            "" if each.lr is None else f"{each.lr:g}",
            f"{each.strings:,}",
        ]
        for each in task.best
    ]
    by = f"{len(task.seeds)} seeds" if len(task.seeds) > 1 else f"seed {_seeds(task.seeds)}"
    return _table(
        [f"The best rules of {task.task}, by {by}"],
        ["rule", "mean reward", "by seed", "rate", "strings"],
        rows,
        ["Chosen by these very rewards, which flatter them: by fresh seeds they would earn less."],
    )


def shown(estimate: Estimate, *, percent: bool = False) -> str:
    """`0.62 [0.59, 0.65]`; `-` where there are too few rules."""
    if math.isnan(estimate.value):
        return "-"
    if percent:
        value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
        return f"{value:.0f} % [{low:.0f}, {high:.0f}]"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _table(
    heading: list[str], titles: list[str], rows: list[list[str]], notes: list[str] | None = None
) -> ReportTable:
    cells = [[Cell(text) for text in row] for row in rows]
    return ReportTable(heading, [Column(title) for title in titles], cells, notes or [])
