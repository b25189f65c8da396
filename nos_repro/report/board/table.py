"""The tables of a board: its scores, the speed-ups task by task, and the tasks themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nos_repro.report.board.measures import NEVER, Bounded
from nos_repro.report.board.standing import BoardRow, BoardStanding, Placed
from nos_repro.report.layout import GLUE, Cell, Column, ReportTable
from nos_repro.report.provenance import machines
from nos_repro.report.statistics import Verdict

# fmt: off
SIGNS: dict[Verdict, str] = {"better": "+", "level": "=", "worse": "-", "undecided": "?"}
"""How a row ends on a task, compared with the reference."""
# fmt: on
MANY = 20
"""Of so many comparisons at 95 %, one is expected to be wrong."""


def board_tables(found: BoardStanding) -> list[ReportTable]:
    """All tables, in the order in which they are read."""
    return [score_table(found), speedup_table(found), task_table(found)]


def score_table(found: BoardStanding) -> ReportTable:
    """A line per row: its score, where it ends better or worse, and what an update costs."""
    titles = ["optimizer", "score", f"ends better than {found.reference}", "level", "worse",
              "targets reached", "seconds per update"]  # fmt: skip
    counted = len(found.counted)
    rows = []
    for row in found.rows:
        ends = [_listed(found, row, verdict) for verdict in ("better", "level", "worse")]
        rows.append([
            Cell(row.name),
            Cell(_score(row)),
            *map(Cell, ends),
            Cell(f"{row.reached} of {counted}" if row.placed else ""),
            Cell(f"{row.pace:.2f}x" if math.isfinite(row.pace) else ""),
        ])  # fmt: skip
    return ReportTable([_heading(found)], list(map(Column, titles)), rows, list(_notes(found)))


def short_table(found: BoardStanding) -> ReportTable:
    """For a README: each row's score, and where it wins and loses."""
    titles = ["optimizer", f"speed against {found.reference}", "wins", "loses"]
    rows = [
        [Cell(row.name), Cell(_score(row)),
         *(Cell(_listed(found, row, verdict)) for verdict in ("better", "worse"))]
        for row in found.rows
    ]  # fmt: skip
    notes = [
        "Speed: the geometric mean, over the tasks, of how much sooner a row reaches what"
        f" {found.reference} reaches at {found.share:.0%} of its training. Wins and loses: where"
        f" its number at the end is better or worse than {found.reference}'s, over paired seeds"
        " (95 %); on the other tasks they are level."
    ]
    return ReportTable([_heading(found)], list(map(Column, titles)), rows, notes)


def speedup_table(found: BoardStanding) -> ReportTable:
    """Rows by tasks: how much sooner a row reaches the target, and how it ends."""
    rows = [
        [Cell(row.name), *(_cell(row.placed.get(task.name)) for task in found.counted)]
        for row in found.rows
        if row.name != found.reference
    ]
    titles = ["optimizer", *(task.name for task in found.counted)]
    signs = ", ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items())
    notes = [
        f"How many times sooner than {found.reference} a row reaches the target, with the 95 %"
        f" interval; 'never' counts as {NEVER:g} trainings. The sign says how the row's number"
        f" ends, compared with {found.reference}'s over paired seeds: {signs}."
    ]
    return ReportTable(["Speed-up, task by task"], list(map(Column, titles)), rows, notes)


def task_table(found: BoardStanding) -> ReportTable:
    """What the tasks are, their targets, and how the reference was tuned."""
    titles = ["task", "study", "metric", "target", f"{found.reference} reaches it at",
              f"{found.reference}'s settings", "points tried per row", "seeds"]  # fmt: skip
    rows = []
    for task in found.tasks:
        own = task.placed.get(found.reference)
        if task.target is None or own is None:
            blanks = [Cell("")] * 3
            rows.append([Cell(task.name), Cell(task.study.study), Cell(task.metric),
                         Cell(f"none: {task.why}"), *blanks, Cell("")])  # fmt: skip
            continue
        tried = sorted({placed.tried for placed in task.placed.values()})
        cells = [task.name, task.study.study, task.metric, f"{task.target:.4g}", _share(own.time),
                 own.chosen, " to ".join(map(str, dict.fromkeys((tried[0], tried[-1])))),
                 str(len(task.seeds))]  # fmt: skip
        rows.append(list(map(Cell, cells)))
    notes = [f"A target is what {found.reference}'s mean curve has reached after"
             f" {found.share:.0%} of its training."]  # fmt: skip
    return ReportTable(["Tasks"], list(map(Column, titles)), rows, notes)


def origin_lines(found: BoardStanding) -> list[str]:
    """Where the numbers come from, and what they cost."""
    records = list({record.id: record for record in found.records}.values())
    if not records:
        return []
    hours = math.fsum(record.seconds for record in records) / 3600
    return [
        f"{len(records)} trials, {hours:.2f} hours of compute in all.",
        *machines([record.provenance for record in records], "trial"),
    ]


def said(estimate: Bounded, form: str = ".2f") -> str:
    """`1.12 [1.05, 1.19]`; without an interval where there is none."""
    value = format(estimate.value, form)
    if math.isnan(estimate.low) or estimate.low == estimate.high == estimate.value:
        return value
    return f"{value}{GLUE}[{estimate.low:{form}},{GLUE}{estimate.high:{form}}]"


def _heading(found: BoardStanding) -> str:
    counted = len(found.counted)
    tasks = f"{counted} task{'s' * (counted != 1)}"
    if counted < len(found.tasks):
        tasks = f"{counted} of {len(found.tasks)} tasks so far"
    return f"The board {found.lead}, scale {found.scale}: {len(found.rows)} optimizers on {tasks}"


def _score(row: BoardRow) -> str:
    return "-" if row.score is None else said(row.score)


def _listed(found: BoardStanding, row: BoardRow, verdict: Verdict) -> str:
    return "" if row.name == found.reference else ", ".join(row.tasks(verdict))


def _cell(found: Placed | None) -> Cell:
    if found is None:
        return Cell("-")
    never = "" if math.isfinite(found.time) else f"{GLUE}(never)"
    text = said(found.speedup) + never
    return Cell(f"{text}{GLUE}{SIGNS[found.verdict]}", signs="‡" if found.edges else "")


def _share(time: float) -> str:
    return f"{time:.0%}" if math.isfinite(time) else "never"


def _notes(found: BoardStanding) -> Iterator[str]:
    yield (
        f"Score: the geometric mean of the speed-ups over the tasks; {found.reference} has 1. A"
        " speed-up is the share of the training that"
        f" {found.reference} needs to reach the target over the row's own share; training is"
        " counted in updates, and the last column says what one costs in seconds."
    )
    yield (
        f"Better, level, worse: the number at the end, less {found.reference}'s with the same seed"
        " (Student's 95 % interval; a diverged run is a loss). Intervals of scores and speed-ups"
        " are Student's too, of their logarithms, whose errors come from resampling the seeds."
    )
    compared = sum(len(task.placed) - 1 for task in found.counted)
    if compared >= MANY:
        yield (
            f"{compared} numbers at the end are compared, each by itself: were all rows equal,"
            f" about {compared / MANY:.0f} of them would be called better or worse."
        )
    fewest = min((len(task.seeds) for task in found.counted), default=0)
    if fewest == 1:
        yield "With 1 seed there are no intervals."
    for task in found.tasks:
        if task.target is None:
            yield f"{task.name} does not count yet: {task.why}."
        elif task.missing:
            each = "; ".join(f"{row} ({why})" for row, why in task.missing.items())
            yield f"{task.name}: not there: {each}."
        yield from _tuning(task.name, task.placed)
    stale = [
        f"{row.name} ({', '.join(names)})"
        for row in found.rows
        if (names := [task for task, each in row.placed.items() if each.stale])
    ]
    if stale:
        yield f"Made by other code than today's: {'; '.join(stale)}."
    yield from found.problems


def _tuning(task: str, placed: dict[str, Placed]) -> Iterator[str]:
    edges = [f"{row} ({', '.join(each.edges)})" for row, each in placed.items() if each.edges]
    if edges:
        yield f"‡ {task}: at the edge of its grid, a wider one may do better: {'; '.join(edges)}."
    tried = {each.tried for each in placed.values()}
    if len(tried) > 1:
        most = max(tried)
        fewer = [f"{row} ({each.tried})" for row, each in placed.items() if each.tried < most]
        yield f"{task}: not tuned alike: {most} points at most, fewer of {'; '.join(fewer)}."
