"""What a table is about to cost, from a few timed steps on this machine."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.errors import ConfigError
from nos_repro.launch.progress import duration
from nos_repro.search.run import child_seconds
from nos_repro.search.table.opening import chosen_rules, open_table
from nos_repro.search.table.settings import TableSettings

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions


def job_seconds(settings: TableSettings, conditions: Conditions) -> float:
    """The seconds that the longest job of the table takes."""
    return max(
        task.together * child_seconds(task.child, conditions) for task in settings.tasks.values()
    )


def dry_run(
    settings: TableSettings,
    folder: Path,
    conditions: Conditions,
    workers: int,
    only: Collection[str] = (),
) -> str:
    """The rules of the space, and for each task the children that are missing and their time. A new
    table's rules are found, which takes a second per thousand rules or so, and kept."""
    packed = open_table(settings, folder)
    trained = sum(not rule.refused for rule in packed.rules)
    lines = [
        f"{settings.table} at scale {settings.scale}: {packed.space.size:,} strings,"
        f" {len(packed.rules):,} distinct rules, {trained:,} to train; the probes refuse the others"
    ]
    rows = {
        name: {(row.rule, row.seed): row for row in packed.rows.get(name, [])}
        for name in settings.tasks
    }
    for name, task in settings.tasks.items():
        if only and name not in only:
            continue
        one = child_seconds(task.child, conditions)
        for part in task.parts:
            seeds = f"{name}, seed{'s' * (len(part.seeds) > 1)} {', '.join(map(str, part.seeds))}"
            try:
                chosen = chosen_rules(settings, packed, rows, name, part).rules
                done = sum((rule, seed) in rows[name] for rule in chosen for seed in part.seeds)
                wanted = len(chosen) * len(part.seeds)
            except ConfigError:  # its rules are not known before others have been trained
                done, wanted = 0, ((part.best or 0) + (part.random or 0)) * len(part.seeds)
            left = duration((wanted - done) * one / max(1, workers))
            lines.append(
                f"  {seeds}: {done:,} of {wanted:,} children are there; about {_seconds(one)} each,"
                f" the others {left} on {workers} workers like this machine"
            )
    return "\n".join(lines)


def _seconds(value: float) -> str:
    """`0.037 s`, `12 s`."""
    return f"{value:.2g} s" if value < 10 else duration(value)
