"""Claims about a search, from its log: how its reward goes, what it found, what it cost."""

from __future__ import annotations

import dataclasses
import math
import statistics
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nos_repro.report.claims.evidence import (
    ALPHA,
    Bounds,
    Effect,
    Evidence,
    Finding,
    every,
    fact,
    not_run,
    single,
    tail,
)
from nos_repro.report.claims.hypergeometric import ODDS, best_of, check_best, depletion, enrichment
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.results import Results
from nos_repro.report.distributions import normal_below
from nos_repro.report.search.confirmation import Candidate, alike, candidates, declared, versus
from nos_repro.report.search.expressions import shares, uniform_share
from nos_repro.report.search.history import History
from nos_repro.report.search.made_by import stale_lines
from nos_repro.report.statistics import Comparison, quantile
from nos_repro.rules.rule import Rule
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.algorithms.policy_gradient import PolicyGradient
from nos_repro.tasks.metrics import Metric

QUARTERS = 4
LEAST = 40
"""The fewest different rules from which the course of a search can be judged."""
TENTH, TOP = 0.1, 10
"""The best of the fresh rules: a tenth of them, at least so many."""
EXPOSED = 30
"""The fewest healthy rules that hold a part before anything is said of it."""


@dataclass(frozen=True)
class SearchTest(ClaimTest):
    """What one search decides."""

    search: str

    @property
    def source(self) -> str:
        return self.search

    def judge(self, found: Results, scale: str) -> Finding:
        history = found.history(self.search, scale)
        finding = self.decide(history, scale)
        stale = stale_lines(history) if finding.verdict != "not run" else []
        return dataclasses.replace(finding, remarks=[*finding.remarks, *stale])

    @abstractmethod
    def decide(self, history: History, scale: str) -> Finding:
        """The verdict from what the search's logs tell."""


@CLAIM_TESTS.register("search_beats")
@dataclass(frozen=True)
class BeatsTest(SearchTest):
    """The best rule found beats each of the ``baselines`` over fresh seeds, on the test images; a
    rule that decays its own rate also each baseline that is given the same decay, and without such
    a baseline it is not said to be better."""

    baselines: Sequence[str]

    def decide(self, history: History, scale: str) -> Finding:
        confirmed = candidates(history)
        best = declared(confirmed)
        known = {each.name: each for each in confirmed if each.baseline}
        missing = [name for name in self.baselines if name not in known]
        if best is None or missing:
            return not_run(scale, "not confirmed by fresh seeds yet (`search ... --confirm`)")
        peers = alike(best, confirmed) if best.decays else []
        rivals = {name: known[name] for name in self.baselines}
        rivals |= {each.name: each for each in peers}
        effects = [
            compared(best, rival, versus(history, best, rival, "test"), history.metric)
            for rival in rivals.values()
        ]
        if best.decays and not peers:
            why = f"no baseline is given its decay ({', '.join(sorted(best.decays))})"
            effects = [
                dataclasses.replace(effect, p_for=1.0, blocked=why if effect.p_for <= ALPHA else "")
                for effect in effects
            ]
        evidence = every([single(effect) for effect in effects])
        reason = {
            "holds": f"the closest: {closest(effects)}",
            "does not hold": str(evidence.strongest_against),
        }.get(evidence.verdict, f"not decided: {evidence.strongest_for}")
        if evidence.verdict == "undecided" and evidence.strongest_for.blocked:
            reason += f": {evidence.strongest_for.blocked}"
        how = "the winner of its race" if history.hall.order else "the best by its reward"
        remarks = [
            f"equal budgets: {len(history.settings['child']['rates'])} rates for each; the rule is"
            f" the search's, {how}, declared before these seeds"
        ]
        return Finding(scale, evidence.verdict, reason, effects, remarks)


def closest(effects: Sequence[Effect]) -> Effect:
    """The smallest difference; one in which runs are missing says less than one of all seeds."""
    most = max(effect.n for effect in effects)
    return min((e for e in effects if e.n == most), key=lambda effect: effect.value)


def compared(one: Candidate, other: Candidate, result: Comparison, metric: Metric) -> Effect:
    """That one is better than the other, by the test metric."""
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
class RisesTest(SearchTest):
    """The rewards of fresh rules (the first draw of each different rule) rise along the search.

    "mean": their mean in the last quarter is above that in the first. It is refuted only if neither
    theirs nor that of all draws rose: a controller that repeats a few good rules raises the latter.
    "best": the best tenth of them were drawn later than in a random order. The best so far never
    falls in any search, so that says nothing.
    """

    what: Literal["mean", "best"]

    def decide(self, history: History, scale: str) -> Finding:
        name = history.settings["algorithm"]["name"]
        if not issubclass(ALGORITHMS.find(name), PolicyGradient):
            return not_run(scale, f"the search has no controller: it is by {name}")
        fresh = [reward.reward for reward in history.fresh]
        if len(fresh) < LEAST:
            return not_run(scale, f"{len(fresh)} different rules drawn, {LEAST} are the least")
        remarks = [
            f"one search of {len(history.rewards):,} draws, {len(fresh):,} of them of a fresh rule;"
            " another seed may go otherwise",
        ]
        stopped = sum(reward.status == "stopped" for reward in history.fresh)
        if stopped:
            remarks.append(f"{stopped} were stopped by the cascade: their rewards are forecasts")
        if self.what == "best":
            effects = [later(fresh)]
        else:
            draws = [reward.reward for reward in history.rewards]
            effects = [_gain("fresh rules", fresh), _gain("all draws", draws)]
            late = {reward.key for reward in history.rewards[-(len(draws) // QUARTERS) :]}
            remarks.append(
                f"{len(late)} different rules in the last {len(draws) // QUARTERS} draws"
            )
        judged = effects[0]
        against = max(effects, key=lambda effect: effect.p_against)
        evidence = Evidence(judged.p_for, against.p_against, judged, against)
        reason = "; ".join(map(str, effects))
        return Finding(scale, evidence.verdict, reason, effects, remarks)


def _gain(what: str, rewards: Sequence[float]) -> Effect:
    """The mean of the last quarter less that of the first, with Welch's t."""
    quarter = len(rewards) // QUARTERS
    parts = rewards[:quarter], rewards[-quarter:]
    first, last = map(statistics.fmean, parts)
    squares = [statistics.variance(part) / quarter for part in parts]
    error = math.sqrt(sum(squares))
    what = f"{what}: mean of the last quarter less the first's"
    if not error:
        return Effect(what, last - first, math.nan, math.nan, quarter, "reward")
    degrees = (quarter - 1) * sum(squares) ** 2 / sum(x * x for x in squares)
    p_for, p_against = (tail(side * (last - first), error, degrees) for side in (1, -1))
    half = quantile(degrees) * error
    low, high = last - first - half, last - first + half
    return Effect(what, last - first, low, high, quarter, "reward", p_for, p_against)


def later(fresh: Sequence[float]) -> Effect:
    """How far along the best tenth of ``fresh`` rewards come on average (random: 1/2), by the rank
    sum's normal approximation; of equal rewards at the bound, all count as best."""
    n = len(fresh)
    bound = sorted(fresh, reverse=True)[max(TOP, round(n * TENTH)) - 1]
    places = [(place - 0.5) / n for place, reward in enumerate(fresh, 1) if reward >= bound]
    k = len(places)
    what = f"where the best {k} of {n} fresh rules were drawn (0: first, 1: last; by chance 0.5)"
    if k == n:
        return Effect(what, 0.5, math.nan, math.nan, n, "of the way")
    mean = statistics.fmean(places)
    error = math.sqrt((n + 1) * (n - k) / (12 * k)) / n
    p_for, p_against = (normal_below(side * (mean - 0.5) / error) for side in (-1, 1))
    return Effect(what, mean, mean - 1.96 * error, mean + 1.96 * error, k, "of the way", p_for,
                  p_against)  # fmt: skip


@CLAIM_TESTS.register("search_shares")
@dataclass(frozen=True)
class SharesTest(SearchTest):
    """A ``part`` is in more of the best rules than chance puts there. ``best``: how many, or below
    1 which share of the healthy rules.

    The test takes exposure into account: while fewer than EXPOSED healthy rules hold the part,
    nothing is said, for what was hardly ever drawn can hardly be among the best. Then: held by more
    of the best than a blind draw gives (hypergeometric); refuted where even parts that are twice as
    likely to be among the best (odds ratio ODDS, Fisher's noncentral hypergeometric) would hardly
    be in so few.
    """

    part: str
    best: float

    def __post_init__(self) -> None:
        Rule.parse(self.part)
        check_best(self.best)

    def decide(self, history: History, scale: str) -> Finding:
        ranked = [event["rule"] for event in history.hall.ranked()]
        if len(ranked) < LEAST:
            return not_run(scale, f"{len(ranked)} healthy rules, {LEAST} are the least")
        best = best_of(self.best, len(ranked))
        part = str(Rule.parse(self.part).normal())
        lift = shares(ranked, best).find(part)
        what = f"in {lift.best} of the best {best}, in {lift.all} of {len(ranked)} healthy rules"
        effect = Effect(what, lift.best / best, math.nan, math.nan, best, "of the best")
        if lift.all < EXPOSED:
            reason = f"not exposed: {what}, {EXPOSED} are the least"
            remarks = [_expected(history, part)]
            return Finding(
                scale, "undecided", reason, [dataclasses.replace(effect, blocked=reason)], remarks
            )
        p_for = enrichment(lift.best, best, lift.all, len(ranked))
        p_against = depletion(lift.best, best, lift.all, len(ranked), ODDS)
        effect = dataclasses.replace(effect, p_for=p_for, p_against=p_against)
        remarks = ["the rules of one search resemble each other: they are no independent draws"]
        return Finding(scale, single(effect).verdict, what, [effect], remarks)


def _expected(history: History, part: str) -> str:
    space = dataclasses.replace(history.asked, space=history.settings["space"]).make_space()
    draws = len(history.rewards)
    share, most = (draws * value for value in uniform_share(space, part))
    return (
        f"of {draws:,} strings drawn uniformly from the space, as many as the search drew,"
        f" {share:.2g} would hold it (at most {most:.2g}), refused and repeated rules among them"
    )


@CLAIM_TESTS.register("search_cost")
@dataclass(frozen=True)
class CostTest(SearchTest):
    """``workers`` train ``samples`` draws in less than ``hours``.

    It holds if that is so even where every draw is a new, healthy rule, each as dear as this
    search's healthy children on average; it does not hold if this search's own draws, most of which
    may repeat a rule and cost nothing, would take longer. With one sample: a healthy child.
    """

    samples: int
    workers: int
    hours: float

    def decide(self, history: History, scale: str) -> Finding:
        healthy = history.healthy_seconds
        if not healthy:
            return not_run(scale, "no healthy child has been trained")
        each = statistics.fmean(healthy)
        most, least = (
            seconds * self.samples / self.workers / 3600
            for seconds in (each, history.seconds / len(history.rewards))
        )
        a_child = f"{each:.1f} s of a core per healthy child"
        if self.samples == 1:
            effect = fact("a healthy child", most < self.hours, most, "hours")
            reason = f"{a_child}: {most:.2g} hours; claimed: {self.hours:.2g}"
            return Finding(scale, single(effect).verdict, reason, [effect])
        draws, fresh = len(history.rewards), len(history.fresh)
        what = f"{self.samples:,} draws on {self.workers} worker{'s' * (self.workers > 1)}"
        effect = Effect(f"{what}, if each were a new healthy rule", most, math.nan, math.nan, 1,
                        "hours", float(most >= self.hours), float(least < self.hours),
                        exact=True)  # fmt: skip
        reason = (
            f"{a_child}: {most:.2g} hours if each draw were a new healthy rule; claimed:"
            f" {self.hours:.2g}; here {fresh / draws:.0%} of the draws were new rules,"
            f" {len(healthy) / draws:.0%} new and healthy"
        )
        remarks = [
            f"the child of scale {scale}; of cost alone: not whether a search that long has settled"
        ]
        return Finding(scale, single(effect).verdict, reason, [effect], remarks)
