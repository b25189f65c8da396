"""Where making a table begins: with its files, or with its rules; and which rules a part trains."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nos_repro.errors import ConfigError
from nos_repro.rules.rule import Rule
from nos_repro.search.equality import key_of
from nos_repro.search.folder import differences
from nos_repro.search.settings import completed_child, space_of
from nos_repro.search.table.files import Packed, read_packed, write_packed
from nos_repro.search.table.grouping import MOST_STRINGS, distinct_rules
from nos_repro.search.table.rows import TableRow
from nos_repro.search.table.settings import TablePart, TableSettings

CHECKED = 50
"""Rules whose keys are computed again when a table is extended."""

Rows = Mapping[tuple[int, int], TableRow]
"""The rows of a task, by rule and seed."""


def open_table(
    settings: TableSettings, folder: Path, note: Callable[[str], None] = lambda message: None
) -> Packed:
    """The table in the folder; a new one is written with its rules and no rows.

    Raises ConfigError if the folder has a table with other settings, DataError if it is damaged.
    """
    packed, now = read_packed(folder), settings.identity()
    if packed is None:
        space = settings.make_space()
        if space.size > MOST_STRINGS:
            raise ConfigError(
                f"space: {space.size:,} strings are too many for a table of all rules; at most"
                f" {MOST_STRINGS:,}"
            )
        rules, of_string = distinct_rules(space, settings.refuse, note)
        packed = Packed(now, rules, of_string)
        write_packed(folder, packed)
    _check_settings(packed.settings, now, folder)
    _check_keys(packed, folder)
    packed.settings = {**now, "tasks": {**packed.settings["tasks"], **now["tasks"]}}
    packed.about = settings.about
    return packed


def _check_settings(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """A table may get new tasks, seeds and rows; all else stays as it is."""
    changes = [
        line
        for key in ("table", "scale", "refuse")
        for line in differences(before[key], now[key], key)
    ]
    if space_of(before["space"]) != space_of(now["space"]):  # as with the children below
        changes += differences(before["space"], now["space"], "space")
    for name in now["tasks"].keys() & before["tasks"].keys():
        old, new = completed_child(before["tasks"][name]), now["tasks"][name]
        changes += differences(old, new, f"tasks.{name}.child")
    if changes:
        raise ConfigError(
            f"{folder} holds a table with other settings:\n  "
            + "\n  ".join(changes)
            + "\n  set them back, or use another --results or another name (table: NAME)"
        )


def _check_keys(packed: Packed, folder: Path) -> None:
    step = max(1, len(packed.rules) // CHECKED)
    for rule in packed.rules[::step]:
        if key_of(Rule.parse(rule.text))[0] != rule.key:
            raise ConfigError(
                f"{folder}: this version groups rules otherwise than the one that made the table:"
                f" {rule.text} has another key\n"
                "  extend it with that version, or make a new table (table: NAME)"
            )


class Chosen(NamedTuple):
    """The rules of a part of a task, by number: the ``best`` by another reward, best first, and
    those ``drawn`` at random from the others; all of them are drawn where a part has no choice."""

    best: list[int]
    drawn: list[int]

    @property
    def rules(self) -> list[int]:
        return sorted([*self.best, *self.drawn])


def chosen_rules(
    settings: TableSettings, packed: Packed, rows: Mapping[str, Rows], task: str, part: TablePart
) -> Chosen:
    """The rules that a part of a task trains, of those that the probes do not refuse.

    The best ones are the best by one seed's reward; the random ones are drawn from the other
    healthy rules, the same ones in every process. ConfigError if the rewards that say which are the
    best are not complete.
    """
    known = [number for number, rule in enumerate(packed.rules) if not rule.refused]
    if part.whole:
        return Chosen([], known)
    judge, by = settings.judge(task, part)
    seed = judge.seeds[0]
    lacking = sum((number, seed) not in rows[by] for number in known)
    if lacking:
        raise ConfigError(
            f"tasks.{task}.parts: {lacking:,} rules have no reward of {by} with seed {seed} yet,"
            " which says which are the best\n"
            f"  put {by} before {task} in the file, or run the same command again"
        )
    healthy = [number for number in known if rows[by][number, seed].status == "healthy"]
    ranked = sorted(healthy, key=lambda number: (-rows[by][number, seed].reward, number))
    best = ranked[: part.best or 0]
    others = sorted(set(healthy) - set(best))
    drawn = random.Random(f"{settings.table} {task}")
    return Chosen(best, sorted(drawn.sample(others, min(part.random or 0, len(others)))))
