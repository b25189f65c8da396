"""Claims about a search, from its log: how its reward goes, what it found, what it cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nos_repro.experiments.selection import Outcome
from nos_repro.report.claims.evidence import Bounds, Effect, Finding, every, fact, not_run, single
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.ranks import predicts
from nos_repro.report.claims.results import Results
from nos_repro.report.distributions import heads_at_most, normal_below
from nos_repro.report.search.confirmation import Candidate, candidates, declared, versus
from nos_repro.report.search.expressions import shares
from nos_repro.report.search.history import History
from nos_repro.report.statistics import Comparison
from nos_repro.rules.rule import Rule
from nos_repro.tasks.metrics import Metric

QUARTERS = 4
LEAST = 40
"""The fewest rules with a reward from which the course of a search can be judged."""
NOISE = 0.005
"""Rewards within half a point of each other count as equal: each comes from one seed."""


@dataclass(frozen=True)
class _SearchTest(ClaimTest):
    """What one search decides."""

    search: str

    @property
    def source(self) -> str:
        return self.search


@CLAIM_TESTS.register("search_beats")
@dataclass(frozen=True)
class BeatsTest(_SearchTest):
    """The best rule found beats each of the ``baselines`` over fresh seeds, on the test images."""

    baselines: Sequence[str]

    def judge(self, found: Results, scale: str) -> Finding:
        history = found.history(self.search, scale)
        confirmed = candidates(history)
        best = declared(confirmed)
        known = {each.name: each for each in confirmed if each.baseline}
        missing = [name for name in self.baselines if name not in known]
        if best is None or missing:
            return not_run(scale, "not confirmed by fresh seeds yet (`search ... --confirm`)")
        effects = [
            _compared(best, known[name], versus(history, best, known[name], "test"), history.metric)
            for name in self.baselines
        ]
        evidence = every([single(effect) for effect in effects])
        reason = {
            "holds": f"the closest: {closest(effects)}",
            "does not hold": str(evidence.strongest_against),
        }.get(evidence.verdict, f"not decided: {evidence.strongest_for}")
        remarks = [
            f"equal budgets: {len(history.settings['child']['rates'])} rates for each; the rule is"
            " the best of the search by its reward, declared before these seeds"
        ]
        return Finding(scale, evidence.verdict, reason, effects, remarks)


def closest(effects: Sequence[Effect]) -> Effect:
    """The smallest difference; one in which runs are missing says less than one of all seeds."""
    most = max(effect.n for effect in effects)
    return min((e for e in effects if e.n == most), key=lambda effect: effect.value)


def _compared(one: Candidate, other: Candidate, result: Comparison, metric: Metric) -> Effect:
    number, what = other.number("test"), f"{one.name} against {other.name}"
    bounds = Bounds("better", metric.tolerance.at(number.mean if number is not None else 0.0))
    p_for = p_against = 1.0
    if result.n > 1:
        p_for, p_against = bounds.p_values(result.mean, result.error, result.n - 1)
    if result.lost != result.other_lost:
        what += f" ({result.lost} and {result.other_lost} runs without a result)"
        p_for = 1.0 if result.lost > result.other_lost else p_for
        p_against = 1.0 if result.lost < result.other_lost else p_against
    low, high = result.mean - result.half, result.mean + result.half
    return Effect(what, result.mean, low, high, result.n, metric.unit, p_for, p_against)


@CLAIM_TESTS.register("search_rises")
@dataclass(frozen=True)
class RisesTest(_SearchTest):
    """The "mean" reward of the last quarter is above the first's; the "best" of what came later
    is above the first quarter's."""

    what: Literal["mean", "best"]

    def judge(self, found: Results, scale: str) -> Finding:
        history = found.history(self.search, scale)
        rewards = [reward.reward for reward in history.rewards]
        if len(rewards) < LEAST:
            return not_run(scale, f"{len(rewards)} rules have a reward, {LEAST} are the least")
        quarter = len(rewards) // QUARTERS
        first, last = rewards[:quarter], rewards[-quarter:]
        remarks = [f"one search of {len(rewards):,} rules; another seed may go otherwise"]
        if self.what == "best":
            gain = max(rewards[quarter:]) - max(first)
            effect = Effect("best later less best of the first quarter", gain, math.nan, math.nan,
                            len(rewards), "reward", float(gain <= NOISE),
                            float(gain >= -NOISE), exact=True)  # fmt: skip
        else:
            gain = statistics.fmean(last) - statistics.fmean(first)
            error = math.hypot(*(statistics.stdev(p) / math.sqrt(quarter) for p in (first, last)))
            p_for, p_against = (normal_below(side * gain / error) for side in (-1, 1))
            effect = Effect("mean of the last quarter less the first's", gain, gain - 1.96 * error,
                            gain + 1.96 * error, quarter, "reward", p_for, p_against)  # fmt: skip
            late = {reward.key for reward in history.rewards[-quarter:]}
            remarks.append(f"{len(late)} different rules in the last quarter's {quarter}")
        return Finding(scale, single(effect).verdict, str(effect), [effect], remarks)


@CLAIM_TESTS.register("search_shares")
@dataclass(frozen=True)
class SharesTest(_SearchTest):
    """A ``part`` is in more of the ``best`` rules than chance puts it there; refuted where
    too few of them have it for a share of one half."""

    part: str
    best: int

    def __post_init__(self) -> None:
        Rule.parse(self.part)

    def judge(self, found: Results, scale: str) -> Finding:
        history = found.history(self.search, scale)
        ranked = [event["rule"] for event in history.hall.ranked()]
        if len(ranked) < LEAST:
            return not_run(scale, f"{len(ranked)} healthy rules, {LEAST} are the least")
        part = str(Rule.parse(self.part).normal())
        lift = shares(ranked, self.best).find(part)
        p_for = enrichment(lift.best, self.best, lift.all, len(ranked))
        p_against = heads_at_most(lift.best, self.best)
        what = (
            f"in {lift.best} of the best {self.best}, in {lift.all} of {len(ranked)} healthy rules"
        )
        effect = Effect(what, lift.best / self.best, math.nan, math.nan, self.best, "of the best",
                        p_for, p_against)  # fmt: skip
        return Finding(scale, single(effect).verdict, what, [effect])


def enrichment(seen: int, best: int, have: int, total: int) -> float:
    """The chance that ``seen`` of the ``best``, or more, have what ``have`` of ``total`` have if
    they are drawn blindly (hypergeometric)."""
    ways = math.comb(total, best)
    return sum(
        math.comb(have, k) * math.comb(total - have, best - k) / ways
        for k in range(seen, min(have, best) + 1)
    )


@CLAIM_TESTS.register("search_cost")
@dataclass(frozen=True)
class CostTest(_SearchTest):
    """``workers`` train ``samples`` rules in less than ``hours``, by the search's own mean."""

    samples: int
    workers: int
    hours: float

    def judge(self, found: Results, scale: str) -> Finding:
        history = found.history(self.search, scale)
        if not history.children:
            return not_run(scale, "no child has been trained")
        per = history.children if self.samples == 1 else len(history.rewards)
        each = history.seconds / per
        took = each * self.samples / self.workers / 3600
        what = f"{self.samples:,} rules" if self.samples > 1 else "a child"
        by = f"{what} by {self.workers} worker{'s' * (self.workers > 1)}"
        effect = fact(by, took < self.hours, took, "hours")
        kind = "rule (equal rules are trained once)" if self.samples > 1 else "child"
        reason = f"{each:.1f} s of a core a {kind}: {took:.2g} hours; claimed: {self.hours:.2g}"
        return Finding(scale, single(effect).verdict, reason, [effect])


@CLAIM_TESTS.register("rewards_predict")
@dataclass(frozen=True)
class RewardsTest(_SearchTest):
    """The rewards of a search order the rows of a ``study`` of its rules as their long runs do:
    the later a row was stopped the better, then by its validation metric there."""

    study: str

    @property
    def source(self) -> str:
        return self.study

    def judge(self, found: Results, scale: str) -> Finding:
        study, rows = found.study(self.study, scale)
        if scale not in found.scales(self.search):
            return not_run(scale, f"there is no search {self.search} at this scale")
        rewards = _rewards(found.history(self.search, scale))
        early, late = [], []
        for outcome in rows.values():
            text = outcome.row.optimizer
            key = str(Rule.parse(text[6:]).normal()) if text.startswith("rule: ") else text
            place = _place(outcome, study.selection.by)
            if key in rewards and place is not None:
                early.append(rewards[key])
                late.append(place)
        if len(early) < len(rows):
            return not_run(scale, f"{len(early)} of {len(rows)} rows have a reward and an end")
        order = sorted(late)
        effect = predicts(
            f"reward and long run, over {len(early)} rows", early, [order.index(x) for x in late]
        )
        remarks = [
            "the rules are the search's best: among rules of all kinds a reward may say more"
        ]
        return Finding(scale, single(effect).verdict, str(effect), [effect], remarks)


def _rewards(history: History) -> dict[str, float]:
    found: dict[str, Any] = {event["rule"]: event["reward"] for event in history.hall.ranked()}
    found |= {named.optimizer: evaluation.reward for named, evaluation in history.of("baseline")}
    return found


def _place(outcome: Outcome, by: str) -> tuple[float, float] | None:
    """How far the row came, and its metric there (larger is better); None while it is under way."""
    if outcome.missing or outcome.chosen is None or outcome.chosen.record is None:
        return None
    record = outcome.chosen.record
    return record.epoch, record.sign * record.column_at(by, math.inf)
