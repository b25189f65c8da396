"""Claims that a table of rules decides: that a short or small training foretells a long or large
one, if the rules trained both; that what a rule is made of puts it among the best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nos_repro.errors import ConfigError, DataError
from nos_repro.experiments.settings_file import TABLES, shipped
from nos_repro.report.claims.evidence import Effect, Finding, not_run, single
from nos_repro.report.claims.hypergeometric import (
    ODDS,
    best_of,
    check_best,
    depletion,
    enrichment,
)
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.ranks import predicts
from nos_repro.report.claims.results import Results
from nos_repro.report.search.expressions import shares
from nos_repro.rules.rule import Rule
from nos_repro.search.session import child_code
from nos_repro.search.table.loaded import RuleTable, load
from nos_repro.search.table.opening import chosen_rules
from nos_repro.search.table.rows import TableRow
from nos_repro.search.table.settings import TableSettings, TableTask, load_table_settings


@CLAIM_TESTS.register("table_predicts")
@dataclass(frozen=True)
class TablePredictsTest(ClaimTest):
    """In a ``table``, the rewards of the task ``early`` order rules as those of the task ``late``
    do; both train at this ``scale``.

    It is judged by the rules that ``late`` drew at random among the healthy ones. Those that it
    trains because they are the best by ``early`` are left out, since there are more of them than
    their share; how they are ordered among themselves is said beside the verdict.
    """

    table: str
    early: str
    late: str
    scale: str

    def __post_init__(self) -> None:
        settings = _settings(self.table, self.early, self.late)
        if len(settings.tasks[self.late].parts) > 1:
            raise ConfigError(f"the task {self.late} of {self.table} has several parts")

    def judge(self, found: Results, scale: str) -> Finding:
        settings = _settings(self.table)
        late: TableTask = settings.tasks[self.late]
        try:
            table = load(settings.folder(found.root))
            rows = {
                task: {(row.rule, row.seed): row for row in table.packed.rows.get(task, [])}
                for task in settings.tasks
            }
            chosen = chosen_rules(settings, table.packed, rows, self.late, late.parts[0])
        except DataError:
            return not_run(self.scale, f"no sound table {self.table} is on record")
        except ConfigError as error:
            return not_run(self.scale, str(error).splitlines()[0])
        seeds = settings.tasks[self.early].seeds[0], late.seeds[0]
        done_late = {
            rule
            for (rule, seed), row in rows[self.late].items()
            if seed == seeds[1] and row.status != "failed"  # a failure says nothing of its rule
        }
        lacking = [rule for rule in chosen.rules if rule not in done_late]
        if lacking:
            done = len(chosen.rules) - len(lacking)
            wanted = f"{len(chosen.rules):,} rules of the table {self.table}"
            return not_run(self.scale, f"{done:,} of {wanted} have trained {self.late}")
        effect = predicts(
            f"rewards of {self.early} and {self.late}, over {len(chosen.drawn)} healthy rules drawn"
            " at random",
            *self._rewards(table, chosen.drawn, seeds),
        )
        remarks = [f"in the table {self.table}; one seed each"]
        if chosen.best:
            among = predicts(
                f"among the {len(chosen.best)} best by {self.early}",
                *self._rewards(table, chosen.best, seeds),
            )
            remarks.append(str(among))
        for task, seed in zip((self.early, self.late), seeds, strict=True):
            remarks += _stale(table, task, [rows[task][rule, seed] for rule in chosen.rules])
        return Finding(self.scale, single(effect).verdict, str(effect), [effect], remarks)

    def _rewards(
        self, table: RuleTable, rules: list[int], seeds: tuple[int, int]
    ) -> tuple[list[float], list[float]]:
        early, late = (
            table.rewards(task, seed)
            for task, seed in zip((self.early, self.late), seeds, strict=True)
        )
        return [float(early[rule]) for rule in rules], [float(late[rule]) for rule in rules]


@CLAIM_TESTS.register("table_shares")
@dataclass(frozen=True)
class TableSharesTest(ClaimTest):
    """In a ``table`` of all rules of a space, a ``part`` is in more of the best rules by the task's
    first seed than chance puts there; they train at this ``scale``. ``best``: how many, or below 1
    which share of the healthy rules.

    Held by more of the best than a blind draw gives (hypergeometric); refuted where even parts that
    are twice as likely to be among the best (odds ratio ODDS, Fisher's noncentral hypergeometric)
    would hardly be in so few. Luck of the seed, which shuffles the rules, makes both rarer.
    """

    table: str
    task: str
    part: str
    best: float
    scale: str

    def __post_init__(self) -> None:
        _settings(self.table, self.task)
        Rule.parse(self.part)
        check_best(self.best)

    def judge(self, found: Results, scale: str) -> Finding:
        settings = _settings(self.table, self.task)
        try:
            table = load(settings.folder(found.root))
        except DataError:
            return not_run(self.scale, f"no sound table {self.table} is on record")
        seed = settings.tasks[self.task].seeds[0]
        rows = [row for row in table.packed.rows.get(self.task, []) if row.seed == seed]
        wanted = sum(not rule.refused for rule in table.rules)
        done = [row for row in rows if row.status != "failed"]
        if len(done) < wanted:
            return not_run(
                self.scale, f"{len(done):,} of {wanted:,} rules of {self.table} are trained"
            )
        healthy = [row for row in done if row.status == "healthy"]
        ranked = sorted(healthy, key=lambda row: (-row.reward, row.rule))
        best = best_of(self.best, len(ranked))
        part = str(Rule.parse(self.part).normal())
        lift = shares([table.rules[row.rule].normal for row in ranked], best).find(part)
        what = f"in {lift.best} of the best {best}, in {lift.all} of {len(ranked):,} healthy rules"
        effect = Effect(
            what, lift.best / best, math.nan, math.nan, best, "of the best",
            enrichment(lift.best, best, lift.all, len(ranked)),
            depletion(lift.best, best, lift.all, len(ranked), ODDS),
        )  # fmt: skip
        remarks = [
            f"all rules of the table {self.table}, one seed each: which are the best, not how often"
            " a controller writes them"
        ]
        remarks += _stale(table, self.task, done)
        return Finding(self.scale, single(effect).verdict, what, [effect], remarks)


def _settings(table: str, *tasks: str) -> TableSettings:
    """The declaration of a table that ships and has these tasks. Raises ConfigError."""
    known = shipped(TABLES)
    if table not in known:
        raise ConfigError(f"no table {table} ships; there are {', '.join(known)}")
    settings = load_table_settings(known[table])
    for task in tasks:
        if task not in settings.tasks:
            raise ConfigError(f"the table {table} has no task {task}")
    return settings


def _stale(table: RuleTable, task: str, rows: Sequence[TableRow]) -> list[str]:
    """What was trained by other code than today's, in a sentence."""
    today = child_code(table.packed.child(task))
    made = Counter(row.code for row in rows if row.code != today)
    if not made:
        return []
    codes = ", ".join(f"{count:,} by {code}" for code, count in made.items())
    return [f"Stale: of {len(rows):,} children of {task} {codes} (today's is {today})."]
