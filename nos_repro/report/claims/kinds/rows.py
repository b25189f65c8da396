"""Claims about rows of a study's table: one optimizer against another, paired over seeds.

Tuning budgets are compared first: the side that was tuned over more points gets no verdict
in its favour (at the scale `paper` the budgets are the paper's own, and are only stated). Nor can a
row lose whose learning rate is at the edge of its grid: a wider grid might do better.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nos_repro.errors import ConfigError
from nos_repro.experiments.columns import metric_of
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.claims.evidence import (
    Bounds,
    ClaimVerdict,
    Effect,
    Evidence,
    Expected,
    Finding,
    every,
    fact,
    not_run,
    paired,
    single,
    some,
)
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest, Extend
from nos_repro.report.claims.results import Results, Rows
from nos_repro.report.claims.scores import by_seed, near_peak, speeds, unfinished
from nos_repro.report.statistics import Scores
from nos_repro.report.study.rows import values_per_parameter

SPEED_TOLERANCE = 0.05
"""A share of the training."""
# fmt: off
MEASURES: dict[str, Callable[[float], float]] = {
    "column": lambda value: value,
    "log":    lambda value: math.log(value) if value > 0 else -math.inf,
    "log10":  lambda value: math.log10(value) if value > 0 else -math.inf,
}
UNITS = {"log": "nats", "log10": "decades", "speed": "of the training sooner"}
# fmt: on
Pair = tuple[str, str]


def _as_they_are(ours: Scores, theirs: Scores) -> tuple[Scores, Scores]:
    return ours, theirs


@CLAIM_TESTS.register("rows")
@dataclass(frozen=True)
class RowsTest(ClaimTest):
    """``ours`` against ``theirs``, every row with every row, or the ``pairs`` named.

    ``measure``: the ``column`` itself, its logarithm, or "speed": how much sooner, as a share of
    the training, one reaches the best validation value that both reach; "peak": the mean of five
    measurements around the best one. ``which``: every
    comparison is claimed, or that "some" of ours is better than all of theirs, or the "mean" over
    the pairs. ``exact``: the task draws no random numbers, and one run says all.
    ``fewer_averages``: claimed, too, is that ours keeps fewer values per parameter than theirs,
    counted on the optimizers themselves.
    """

    study: str
    expect: Expected = "better"
    column: str = ""
    measure: Literal["column", "log", "log10", "speed", "peak"] = "column"
    which: Literal["every", "some", "mean"] = "every"
    ours: Sequence[str] = ()
    theirs: Sequence[str] = ()
    pairs: Sequence[Sequence[str]] = ()
    tolerance: float | None = None
    margin: float = 0.0
    exact: bool = False
    fewer_averages: bool = False

    def __post_init__(self) -> None:
        if not self._pairs():
            raise ConfigError("name rows as ours and theirs, or as pairs")
        if any(len(pair) != 2 for pair in self.pairs):
            raise ConfigError("pairs: expected pairs of two rows each")
        if self.measure != "speed" and not self.column:
            raise ConfigError("no column; only the measure speed has none")

    @property
    def source(self) -> str:
        return self.study

    def named(self) -> Iterator[tuple[str, str]]:
        """Every (study, row) that the claim speaks of."""
        for name in dict.fromkeys(name for pair in self._pairs() for name in pair):
            yield self.study, name

    def _pairs(self) -> list[Pair]:
        crossed = [(one, other) for one in self.ours for other in self.theirs]
        return crossed + [(pair[0], pair[-1]) for pair in self.pairs]

    def judge(self, found: Results, scale: str) -> Finding:
        study, rows = found.study(self.study, scale)
        asked = [name for _, name in self.named()]
        waiting = [name for name in asked if unfinished(rows[name])]
        if waiting:
            done = len(asked) - len(waiting)
            return not_run(scale, f"{done} of {len(asked)} rows are complete ({waiting[0]} is not)")
        effects, evidence = self._evidence(study, rows)
        shown = list(effects.values())
        if self.which == "mean":
            shown = [evidence.strongest_for, *shown]
        reason = _reason(evidence, shown if self.which != "mean" else shown[:1])
        remarks = [*_budgets(rows, self._pairs()), *_cautions(rows, asked)]
        if self.fewer_averages:
            kept = (f"{name} keeps {_kept(study, name):g}" for name in asked)
            remarks.append(f"values per parameter: {', '.join(kept)}")
        if (own := self._papers_own(study, effects)) is not None:
            remarks.append(own)
        return Finding(scale, evidence.verdict, reason, shown, remarks)

    def foresee(self, found: Results, scale: str, extend: Extend) -> ClaimVerdict | None:
        study, rows = found.study(self.study, scale)
        if self.exact or any(unfinished(rows[name]) for _, name in self.named()):
            return None
        return self._evidence(study, rows, extend)[1].verdict

    def _evidence(
        self, study: Study, rows: Rows, extend: Extend = _as_they_are
    ) -> tuple[dict[Pair, Effect], Evidence]:
        """Each comparison, and what they say together."""
        effects = {pair: self._effect(study, rows, pair, extend) for pair in self._pairs()}
        if self.which == "mean":
            return effects, single(self._mean(study, rows, list(effects.values()), extend))
        singles = {pair: single(effect) for pair, effect in effects.items()}
        if self.which == "every":
            return effects, every(list(singles.values()))
        of_ours = [every([singles[one, other] for other in self.theirs]) for one in self.ours]
        return effects, some(of_ours)

    def _bounds(self, study: Study, rows: Rows, theirs: str) -> Bounds:
        number = rows[theirs].number(self.column) if self.column else None
        tolerance = self._tolerance(study, number.mean if number is not None else 0.0)
        return Bounds(self.expect, tolerance, self.margin)

    def _tolerance(self, study: Study, value: float) -> float:
        """The tolerance for a difference from ``value``."""
        if self.tolerance is not None:
            return self.tolerance
        if self.measure == "speed":
            return SPEED_TOLERANCE
        return metric_of(study.task["name"], self.column).tolerance.at(value)

    def _effect(self, study: Study, rows: Rows, pair: Pair, extend: Extend) -> Effect:
        one, other = (rows[name] for name in pair)
        bounds = self._bounds(study, rows, pair[1])
        unit = self._unit(study)
        what = f"{pair[0]} against {pair[1]}"
        ours, theirs = extend(*self._scores(study, one, other))
        effect = paired(
            what,
            ours,
            theirs,
            bounds,
            unit,
            exact=self.exact,
            resolution=self._resolution(study),
        )
        effect = _blocked(effect, study, one, other, level=self.expect == "level")
        if self.fewer_averages and _kept(study, pair[0]) >= _kept(study, pair[1]):
            more = _kept(study, pair[0]) - _kept(study, pair[1])
            return fact(f"memory of {what}", so=False, value=more, unit="values per parameter")
        return dataclasses.replace(effect, paper=self._papers(study, one, other))

    def _scores(self, study: Study, one: Outcome, other: Outcome) -> tuple[Scores, Scores]:
        if self.measure == "speed":
            return speeds(study, one, other)
        score = functools.partial(self._score, study)
        return by_seed(study, one, score), by_seed(study, other, score)

    def _resolution(self, study: Study) -> float:
        """For a speed: the time between two evaluations."""
        return study.training.evaluate_every / study.training.epochs * (self.measure == "speed")

    def _score(self, study: Study, record: Record) -> float:
        if self.measure == "peak":
            return near_peak(record, self.column)
        value = MEASURES[self.measure](record.column(self.column))
        return metric_of(study.task["name"], self.column).sign * value

    def _unit(self, study: Study) -> str:
        return UNITS.get(self.measure) or metric_of(study.task["name"], self.column).unit

    def _mean(self, study: Study, rows: Rows, effects: Sequence[Effect], extend: Extend) -> Effect:
        """The mean over the pairs, seed by seed."""
        sums: dict[int, list[float | None]] = {}
        for one, other in self._pairs():
            ours, theirs = extend(*self._scores(study, rows[one], rows[other]))
            for seed in ours.keys() & theirs.keys():
                a, b = ours[seed], theirs[seed]
                sums.setdefault(seed, []).append(None if a is None or b is None else a - b)
        whole = {s: v for s, v in sums.items() if len(v) == len(effects) and None not in v}
        means = {s: math.fsum(x for x in v if x is not None) / len(v) for s, v in whole.items()}
        bounds = self._bounds(study, rows, self._pairs()[0][1])
        unit = self._unit(study)
        what = f"mean over {len(effects)} pairs of rows"
        step = self._resolution(study) / math.sqrt(len(effects))
        zeros = dict.fromkeys(means, 0.0)
        effect = paired(what, means, zeros, bounds, unit, exact=self.exact, resolution=step)
        blocks = [e.blocked for e in effects if e.blocked]
        if not blocks:
            return effect
        return dataclasses.replace(effect, p_for=1.0, p_against=1.0, blocked=blocks[0])

    def _papers(self, study: Study, one: Outcome, other: Outcome) -> float | None:
        """The difference between the numbers that the paper prints."""
        if self.measure in ("speed", "peak"):
            return None
        values = [row.row.paper.get(self.column) for row in (one, other)]
        ours, theirs = values
        if ours is None or theirs is None:
            return None
        measured = MEASURES[self.measure]
        sign = metric_of(study.task["name"], self.column).sign
        return sign * (measured(ours) - measured(theirs))

    def _papers_own(self, study: Study, effects: dict[Pair, Effect]) -> str | None:
        """Whether the paper's own table says what its text says."""
        given = {p: e.paper for p, e in effects.items() if e.paper is not None}
        if len(given) < len(effects) or self.which == "mean":
            return None
        agree = {p: self._agrees(study, p[1], value) for p, value in given.items()}
        if self.which == "some":
            whole = any(all(agree[one, other] for other in self.theirs) for one in self.ours)
            return f"the paper's own numbers: {'so' if whole else 'not so'}"
        against = [pair for pair, agrees in agree.items() if not agrees]
        if not against:
            return f"the paper's own numbers: so in all {len(agree)} comparisons"
        one, other = against[0]
        return (
            f"the paper's own numbers: not so in {len(against)} of {len(agree)} comparisons"
            f" ({one} against {other}: {given[one, other]:+.3g})"
        )

    def _agrees(self, study: Study, theirs: str, difference: float) -> bool:
        """Whether the ``difference`` of the paper's own numbers is the expected one."""
        tolerance = self._tolerance(study, study.rows[theirs].paper[self.column]) + 1e-9
        if self.expect == "level":
            return abs(difference) <= tolerance
        return difference > (-tolerance if self.expect == "not worse" else self.margin)


def _kept(study: Study, name: str) -> float:
    return values_per_parameter(study.rows[name], study.task)


def _blocked(effect: Effect, study: Study, one: Outcome, other: Outcome, *, level: bool) -> Effect:
    """The effect, without a verdict that tuning budgets or grid edges rule out."""
    mine, its = len(one.sweep), len(other.sweep)
    reasons = []
    p_for, p_against = effect.p_for, effect.p_against
    if study.scale != "paper" and mine != its:
        reasons.append(f"tuned over {mine} against {its} points")
        p_for = 1.0 if mine > its or level else p_for
        p_against = 1.0 if its > mine or level else p_against
    for outcome, ours in ((one, True), (other, False)):
        if outcome.edges:
            reasons.append(f"{outcome.name} at the edge of its grid ({', '.join(outcome.edges)})")
            p_against = 1.0 if ours or level else p_against
            p_for = 1.0 if not ours or level else p_for
    changed = (p_for, p_against) != (effect.p_for, effect.p_against)
    blocked = "; ".join(reasons) if changed else ""
    return dataclasses.replace(effect, p_for=p_for, p_against=p_against, blocked=blocked)


def _reason(evidence: Evidence, effects: Sequence[Effect]) -> str:
    if evidence.verdict == "holds":
        which = "the closest" if len(effects) > 1 else ""
        return " ".join(filter(None, (which, str(evidence.strongest_for))))
    if evidence.verdict == "does not hold":
        return str(evidence.strongest_against)
    few = max(effect.n for effect in effects)
    blocked = [effect.blocked for effect in effects if effect.blocked]
    if blocked and few > 1:
        return f"would need wider grids or equal ones: {blocked[0]}"
    if few < 2:
        return "n too small: one run per row has no spread"
    weakest = evidence.strongest_for
    which = "the interval is too wide" if len(effects) == 1 else "not all are decided"
    return f"{which}; {weakest}"


def _budgets(rows: Rows, pairs: Sequence[Pair]) -> list[str]:
    """States how many points each side was tuned over."""
    mine = sorted({len(rows[one].sweep) for one, _ in pairs})
    its = sorted({len(rows[other].sweep) for _, other in pairs})
    if mine == its and len(mine) == 1:
        return [f"equal tuning budgets: {mine[0]} points per row"]
    words = (" or ".join(map(str, sizes)) for sizes in (mine, its))
    return ["unequal tuning budgets: " + " against ".join(words) + " points per row"]


def _cautions(rows: Rows, asked: Sequence[str]) -> list[str]:
    edged = [name for name in asked if rows[name].edges]
    stale = [name for name in asked if rows[name].stale]
    lines = []
    if edged:
        lines.append(f"at the edge of their grids: {len(edged)} of {len(asked)} rows")
    if stale:
        lines.append(f"stale (older code): {len(stale)} of {len(asked)} rows")
    return lines
