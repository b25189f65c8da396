"""Claims that rules are ordered alike on two tasks, decided by the rows that two studies share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nos_repro.errors import ConfigError
from nos_repro.experiments.columns import metric_of
from nos_repro.report.claims.evidence import Finding, every, not_run, single
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.ranks import predicts
from nos_repro.report.claims.results import Results
from nos_repro.report.claims.scores import unfinished

FEWEST = 4


@CLAIM_TESTS.register("agree")
@dataclass(frozen=True)
class AgreeTest(ClaimTest):
    """The ``rows``, which several studies have, are ordered by ``column`` in ``study`` as each of
    the studies ``others`` orders them by its validation column. A row that diverges comes last."""

    study: str
    column: str
    others: Sequence[str]
    rows: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.rows) < FEWEST:
            raise ConfigError(f"rows: an order of fewer than {FEWEST} says nothing")

    @property
    def source(self) -> str:
        return self.study

    def named(self) -> Iterator[tuple[str, str]]:
        for study in (self.study, *self.others):
            for row in self.rows:
                yield study, row

    def judge(self, found: Results, scale: str) -> Finding:
        values = {}
        for name in (self.study, *self.others):
            study, rows = found.study(name, scale)
            open_rows = [row for row in self.rows if unfinished(rows[row])]
            if open_rows:
                done = len(self.rows) - len(open_rows)
                return not_run(scale, f"{done} of {len(self.rows)} rows of {name} are complete")
            column = self.column if name == self.study else study.selection.by
            sign = metric_of(study.task["name"], column).sign
            numbers = [rows[row].number(column) for row in self.rows]
            values[name] = [-math.inf if n is None else sign * n.mean for n in numbers]
        effects = [
            predicts(f"{self.study} and {other}, over {len(self.rows)} rules",
                     values[self.study], values[other])
            for other in self.others
        ]  # fmt: skip
        verdict = every([single(effect) for effect in effects]).verdict
        return Finding(scale, verdict, "; ".join(map(str, effects)), effects)
