"""`table --verify`: rows of a table trained again and compared to the bit."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nos_repro.errors import ConfigError, DataError, LaunchError
from nos_repro.experiments.build import Conditions
from nos_repro.launch.base import Launcher
from nos_repro.launch.driver import drive
from nos_repro.rules.rule import Rule
from nos_repro.search.child import Evaluation
from nos_repro.search.equality import key_of
from nos_repro.search.session import child_code
from nos_repro.search.table.files import read_packed
from nos_repro.search.table.job import PackJob
from nos_repro.search.table.make import TableDisplay
from nos_repro.search.table.rows import TableRow


@dataclass(frozen=True)
class Verified:
    """A row that was trained again. ``differs`` has the columns whose numbers are others, with what
    the table says and what was found; ``stale``: other code made the row."""

    task: str
    rule: str
    row: TableRow
    differs: dict[str, tuple[object, object]]
    stale: bool


def verify(
    folder: Path,
    number: int,
    launcher: Launcher[PackJob],
    conditions: Conditions,
    display: TableDisplay,
    source: random.Random | None = None,
) -> Iterator[Verified]:
    """Trains ``number`` rows again, drawn at random from all, each with the settings that the table
    holds. Nothing is written. Raises ConfigError or DataError if there is no table, LaunchError if
    workers vanish."""
    packed = read_packed(folder)
    rows = [] if packed is None else [(t, row) for t, rows in packed.rows.items() for row in rows]
    if packed is None or not rows:
        raise ConfigError(f"{folder}: no rows to verify; make the table first")
    drawn = (source or random.Random()).sample(rows, min(number, len(rows)))
    with tempfile.TemporaryDirectory() as scratch:
        jobs: dict[str, tuple[str, TableRow]] = {}
        queue: list[PackJob] = []
        for task, row in drawn:
            rule = packed.rules[row.rule]
            if key_of(Rule.parse(rule.text))[0] != rule.key:
                raise DataError(f"{folder}: {rule.text} has another key than the table says")
            name = f"{task}-{row.seed}-{rule.key}"
            jobs[name] = task, row
            texts, child = {rule.key: f"rule: {rule.text}"}, packed.child(task)
            queue.append(PackJob(name, texts, child, conditions, Path(scratch), row.seed))
        waiting = iter(queue)
        for done, report in enumerate(drive(lambda: waiting, launcher, display.note), start=1):
            task, row = jobs[report.job.name]
            answers = report.job.answers()
            if report.outcome == "overran":
                answers = {packed.rules[row.rule].key: Evaluation("overran", 0.0)}
            if not answers:
                raise LaunchError(f"{report.job.label}: its worker vanished ({report.message})")
            (found,) = answers.values()
            display.update_table("verified", done, len(drawn))
            child = packed.child(task)
            again = TableRow.of(row.rule, row.seed, found, child, child_code(child))
            differs = {
                key: (then, again.numbers[key])
                for key, then in row.numbers.items()
                if then != again.numbers[key]
            }
            yield Verified(task, packed.rules[row.rule].text, row, differs, row.code != again.code)
