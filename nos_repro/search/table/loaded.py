"""A table in memory: what a program asks it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nos_repro.errors import DataError, unknown
from nos_repro.rules.numbering import number_of
from nos_repro.rules.space import Space
from nos_repro.search.table.files import Packed, read_packed
from nos_repro.search.table.grouping import TableRule
from nos_repro.search.table.rows import TableRow


class RuleTable:
    """The distinct rules of a space and what each of them earned.

    Examples:
        >>> from nos_repro.search import table
        >>> t = table.load("signs")  # doctest: +SKIP
        >>> rewards = t.rewards("digits", seed=0)  # doctest: +SKIP
        >>> t.rules[rewards.argmax()].text  # doctest: +SKIP
    """

    def __init__(self, packed: Packed, folder: Path) -> None:
        self.folder = folder
        self.name: str = packed.settings["table"]
        self.packed = packed
        self.space: Space = packed.space
        self.rules: list[TableRule] = packed.rules
        """One per distinct rule; its place is its number."""
        self.rule_of_index = packed.rule_of_string
        """For every string of the space, in the order of `rules.numbering`, the number of its
        rule: [strings]."""

    def rule_of(self, tokens: Sequence[str]) -> int:
        """The number of the rule that a string of the space writes. Raises RuleError."""
        return int(self.rule_of_index[number_of(self.space, tokens)])

    @property
    def tasks(self) -> list[str]:
        """The tasks that have rows."""
        return [name for name, rows in self.packed.rows.items() if rows]

    def seeds(self, task: str) -> list[int]:
        """The seeds of a task, those of a part of the rules included. Raises KeyError."""
        return sorted({seed for _, seed in self._rows(task)})

    def rewards(self, task: str, seed: int = 0) -> np.ndarray:
        """The reward of every rule: [rules]; 0 where it was refused or diverged, NaN where it was
        not trained with this seed. Raises KeyError for a task or a seed that the table lacks."""
        if seed not in self.seeds(task):
            raise KeyError(f"the table has no seed {seed} of {task}; it has {self.seeds(task)}")
        found = np.array([0.0 if rule.refused else np.nan for rule in self.rules])
        for (number, other), row in self._rows(task).items():
            if other == seed:
                found[number] = row.reward if row.status != "failed" else np.nan
        return found

    def row(self, task: str, rule: int, seed: int = 0) -> TableRow | None:
        """All that a rule's child found; None if there is none. Raises KeyError."""
        return self._rows(task).get((rule, seed))

    @functools.cache  # noqa: B019  (a table lives as long as its rows)
    def _rows(self, task: str) -> dict[tuple[int, int], TableRow]:
        if task not in self.tasks:
            raise KeyError(f"the table {self.name}: {unknown('task', task, self.tasks)}")
        return {(row.rule, row.seed): row for row in self.packed.rows[task]}


def load(name: str | Path, results: Path = Path("results")) -> RuleTable:
    """The table of that name in ``results``, or in a folder that is given as a path.

    Raises DataError if there is none, or its files are damaged.
    """
    folder = Path(name)
    if len(folder.parts) == 1 and not folder.is_dir():
        folder = results / "nosbench" / name
    packed = read_packed(folder)
    if packed is None:
        raise DataError(
            f"no table in {folder}\n"
            "  name another folder or --results, or make one: python -m nos_repro table CONFIG"
        )
    return RuleTable(packed, folder)
