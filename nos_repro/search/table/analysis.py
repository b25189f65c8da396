"""What a table says: how its tasks went, which rules are best, what the cheap tasks foretell, and
how much of a reward is luck."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from nos_repro.search.table.loaded import RuleTable
from nos_repro.search.table.measures import (
    Estimate,
    Regret,
    best_quarter,
    kendall,
    luck,
    luck_deviation,
    regret,
)

BEST = 10
NOTHING = Estimate(math.nan, math.nan, math.nan, 0)
SHORTLIST = 20
"""Rules that a cheap task hands on to a dear one."""


@dataclass(frozen=True)
class BestRule:
    """One of the best rules of a task, with its mean reward over the seeds that trained it."""

    rule: str
    key: str
    reward: float
    rewards: dict[int, float]
    lr: float | None
    strings: int


@dataclass(frozen=True)
class TaskSummary:
    """How a task went: ``statuses`` counts its rows, ``seconds`` is a child's mean time. ``whole``
    are the seeds that trained every rule, ``partly`` the rules that each other one has. ``best``
    are the best by the mean over all seeds, of the rules that all of them trained."""

    task: str
    seeds: list[int]
    whole: list[int]
    partly: dict[int, int]
    statuses: dict[str, int]
    seconds: float
    best: list[BestRule]

    @property
    def rows(self) -> int:
        return sum(self.statuses.values())

    @property
    def first(self) -> int:
        """The seed by which it speaks: the first that trained every rule, else the first."""
        return (self.whole or self.seeds)[0]

    @property
    def healthy(self) -> float:
        """The share of rows that are healthy."""
        return self.statuses.get("healthy", 0) / self.rows if self.rows else math.nan


@dataclass(frozen=True)
class Prediction:
    """How a cheap task's rewards order rules as those of a dear one do: Kendall's tau-b over all
    rules that both have trained, which may be a part, and over the best quarter by the dear task.

    ``shared``: of the best SHORTLIST rules of the dear task, how many are among those of the cheap
    one; ``lost``: what the best rule of the cheap task's shortlist is worse than the best of all.
    Both tasks speak by their first seed.
    """

    cheap: str
    dear: str
    whole: Estimate
    quarter: Estimate
    shared: int
    lost: float


@dataclass(frozen=True)
class SeedLuck:
    """What the seed does to a reward, over the rules that are healthy with every seed of a task:
    the ``share`` of the variance that is luck, the standard ``deviation`` of a rule's reward, and
    Kendall's tau-b of two seeds, all by ``seeds``; the share in the best ``quarter``, which the
    first seed chooses and the others measure; and the ``regret`` of choosing by one seed.

    Where some seeds trained a part of the rules, the best by the first seed among them, that seed
    flatters these rules: then the other seeds measure, and only the first one chooses.
    """

    task: str
    seeds: list[int]
    share: Estimate
    quarter: Estimate
    deviation: float
    agreement: Estimate
    regret: Regret | None


@dataclass(frozen=True)
class Analysis:
    """All of it, for one table."""

    table: RuleTable
    refused: dict[str, int]
    tasks: list[TaskSummary]
    predictions: list[Prediction]
    luck: list[SeedLuck]

    @property
    def trained(self) -> int:
        """The rules that the probes do not refuse."""
        return len(self.table.rules) - sum(self.refused.values())


def analyse(table: RuleTable) -> Analysis:
    """The analysis of a table."""
    tasks = sorted((_summary(table, task) for task in table.tasks), key=lambda one: one.seconds)
    predictions = [
        _prediction(table, cheap, dear)
        for place, dear in enumerate(tasks)
        for cheap in tasks[:place]
    ]
    return Analysis(
        table,
        dict(Counter(rule.refused for rule in table.rules if rule.refused)),
        tasks,
        predictions,
        [_luck(table, task) for task in tasks if len(task.seeds) > 1],
    )


def _summary(table: RuleTable, task: str) -> TaskSummary:
    rows = table.packed.rows[task]
    seeds = table.seeds(task)
    wanted = sum(not rule.refused for rule in table.rules)
    count = Counter(row.seed for row in rows)
    whole = [seed for seed in seeds if count[seed] == wanted]
    means = _columns(table, task, seeds).mean(axis=1)
    if np.isfinite(means).sum() < BEST + sum(bool(rule.refused) for rule in table.rules):
        means = _columns(table, task, whole or seeds).mean(axis=1)  # few have all seeds
    means = np.nan_to_num(means, nan=-1.0)
    best = [number for number in np.argsort(-means, kind="stable")[:BEST] if means[number] > 0]
    return TaskSummary(
        task,
        seeds,
        whole,
        {seed: count[seed] for seed in seeds if seed not in whole},
        dict(Counter(row.status for row in rows)),
        float(np.mean([row.seconds for row in rows])),
        [_best(table, task, int(number), seeds) for number in best],
    )


def _best(table: RuleTable, task: str, number: int, seeds: list[int]) -> BestRule:
    rows = {seed: row for seed in seeds if (row := table.row(task, number, seed)) is not None}
    rewards = {seed: row.reward for seed, row in rows.items()}
    rule = table.rules[number]
    lr = next(iter(rows.values())).lr
    return BestRule(
        rule.text, rule.key, float(np.mean([*rewards.values()])), rewards, lr, rule.strings
    )


def _columns(table: RuleTable, task: str, seeds: list[int]) -> np.ndarray:
    """The rewards of some seeds: [rules, seeds]."""
    return np.stack([table.rewards(task, seed) for seed in seeds], axis=1)


def _prediction(table: RuleTable, cheap: TaskSummary, dear: TaskSummary) -> Prediction:
    trained = np.array([not rule.refused for rule in table.rules])
    x = table.rewards(cheap.task, cheap.first)
    y = table.rewards(dear.task, dear.first)
    both = trained & np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    top = best_quarter(y)
    first, second = (set(np.argsort(-z, kind="stable")[:SHORTLIST]) for z in (x, y))
    return Prediction(
        cheap.task,
        dear.task,
        kendall(x, y),
        kendall(x[top], y[top]),
        len(first & second),
        float(y.max() - y[list(first)].max()) if len(y) else math.nan,
    )


def _luck(table: RuleTable, task: TaskSummary) -> SeedLuck:
    rows = [{seed: table.row(task.task, number, seed) for seed in task.seeds}
            for number in range(len(table.rules))]  # fmt: skip
    healthy = np.array(
        [all(row is not None and row.status == "healthy" for row in each.values()) for each in rows]
    )
    rewards = _columns(table, task.task, task.seeds)[healthy]
    first = task.seeds.index(task.first)
    others = [place for place in range(len(task.seeds)) if place != first]
    judges = others if len(task.whole) < len(task.seeds) else [first, *others]
    judged = rewards[:, judges]
    top = best_quarter(rewards[:, first])
    return SeedLuck(
        task.task,
        [task.seeds[place] for place in judges],
        luck(judged),
        luck(rewards[top][:, others]),
        luck_deviation(judged),
        kendall(*judged[:, :2].T) if len(judges) > 1 else NOTHING,
        regret(rewards, [first] if judges == others else None),
    )
