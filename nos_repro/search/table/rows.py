"""The rows of a table: what one child of a rule found, in the form that is kept."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nos_repro.search.child import Child, Evaluation

COMPARED = ("status", "reward", "lr", "sweep", "curve", "examples")
STATUSES = ("healthy", "diverged", "overran", "failed")
BEFORE = ("rule", "seed", "status", "reward", "lr")
AFTER = ("examples", "seconds", "code", "reason")


@dataclass(frozen=True)
class TableRow:
    """The child of the ``rule`` with this index and one ``seed``.

    ``sweep`` has the metric of every rate and ``curve`` that of every epoch; None where it was not
    reached or not finite. ``code`` is the digest of the code that trained it.
    """

    rule: int
    seed: int
    status: str
    reward: float
    lr: float | None
    sweep: tuple[float | None, ...]
    curve: tuple[float | None, ...]
    examples: int
    seconds: float
    code: str
    reason: str = ""

    @classmethod
    def of(cls, rule: int, seed: int, found: Evaluation, child: Child, code: str) -> TableRow:
        """The row for what a child found."""
        known = dict(found.sweep)
        curve = [*found.curve, *[None] * (child.epochs - len(found.curve))]
        return cls(
            rule,
            seed,
            found.status,
            found.reward,
            found.lr,
            tuple(known.get(rate) for rate in child.rates),
            tuple(curve),
            found.examples,
            found.seconds,
            code,
            found.reason.replace("\n", " "),
        )

    @property
    def numbers(self) -> dict[str, object]:
        """What training again must give to the bit: all but the time, the code and the words."""
        return {key: getattr(self, key) for key in COMPARED}


def columns(child: Child) -> list[str]:
    """The names of a task's columns."""
    rates = [f"rate_{rate:g}" for rate in child.rates]
    return [*BEFORE, *rates, *(f"epoch_{n}" for n in range(1, child.epochs + 1)), *AFTER]


def written(rows: Iterable[TableRow], child: Child) -> str:
    """The rows as CSV, by seed and rule. A missing number is empty; floats read back exactly."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(child))
    for row in sorted(rows, key=lambda row: (row.seed, row.rule)):
        values = [row.rule, row.seed, row.status, row.reward, row.lr, *row.sweep, *row.curve]
        writer.writerow(map(_cell, [*values, row.examples, row.seconds, row.code, row.reason]))
    return text.getvalue()


def _cell(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def read(text: str, child: Child, rules: int) -> list[TableRow]:
    """The rows of a CSV. Raises ValueError that says what is wrong with it."""
    lines = list(csv.reader(io.StringIO(text)))
    wanted = columns(child)
    if not lines or lines[0] != wanted:
        raise ValueError("its columns are not those of its task")
    rates, end = len(child.rates), len(BEFORE) + len(child.rates) + child.epochs
    found = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            row = _row(line, len(BEFORE), len(BEFORE) + rates, end)
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {number} is not a row: {error}") from None
        if len(line) != len(wanted) or not 0 <= row.rule < rules or row.status not in STATUSES:
            raise ValueError(f"line {number} is not a row")
        found.append(row)
    if len({(row.rule, row.seed) for row in found}) < len(found):
        raise ValueError("a rule has two rows with one seed")
    return found


def _row(line: Sequence[str], first: int, second: int, third: int) -> TableRow:
    sweep, curve = line[first:second], line[second:third]
    examples, seconds, code, reason = line[third:]
    lr = _number(line[4])
    reward = float(line[3])
    if not math.isfinite(reward):
        raise ValueError(f"the reward is {line[3]}")
    return TableRow(
        int(line[0]),
        int(line[1]),
        line[2],
        reward,
        lr,
        tuple(map(_number, sweep)),
        tuple(map(_number, curve)),
        int(examples),
        float(seconds),
        code,
        reason,
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
