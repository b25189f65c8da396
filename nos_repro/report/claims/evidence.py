"""What records say for a claim and against it, and the verdict that follows.

Every comparison carries two p-values: of the hypothesis that the claim is wrong (small: it
holds) and of the hypothesis that it is right (small: it does not). "Every one of k" is shown by
all of them, so the largest p counts; it is refuted by any, so the least p counts k-fold
(Bonferroni); "some" is the other way round. At most 2.5 % of either verdict are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from nos_repro.report.statistics import Scores, above, compare, quantile

ClaimVerdict = Literal["holds", "does not hold", "undecided", "not run", "cannot be tested here"]
VERDICTS: tuple[ClaimVerdict, ...] = get_args(ClaimVerdict)
ALPHA = 0.025
ANY_SCALE = "any"
"""The scale of a claim that depends on no training."""


@dataclass(frozen=True)
class Effect:
    """One comparison: its size with the 95 % interval, in ``unit``, and its two p-values.

    ``exact``: it was counted or computed, not sampled: it is so or it is not (a p-value of 0 or 1),
    and has no interval and no n. Its ``value`` is NaN where it has no size.
    ``paper``: the same difference in the paper's own numbers. ``blocked`` says what keeps the
    comparison from a verdict that its numbers might give.
    """

    what: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    p_for: float = 1.0
    p_against: float = 1.0
    paper: float | None = None
    blocked: str = ""
    exact: bool = False

    @property
    def size(self) -> str:
        """The value as it is printed; of an exact comparison without one, whether it is so."""
        if math.isfinite(self.value):
            return f"{self.value:+.3g}"
        if self.exact and math.isnan(self.value):
            return "yes" if self.p_for == 0 else "no"
        return "-" if math.isnan(self.value) else f"{self.value:+.3g}"

    def __str__(self) -> str:
        text = f"{self.what}: {self.size}"
        if self.exact:
            return f"{text} {self.unit}".rstrip()
        if math.isfinite(self.low) and math.isfinite(self.high):
            text += f" [{self.low:+.3g}, {self.high:+.3g}]"
        return f"{text} {self.unit}".rstrip() + f" (n = {self.n})"


@dataclass(frozen=True)
class Evidence:
    """The two p-values of a whole statement, and the comparison that decides it either way."""

    p_for: float
    p_against: float
    strongest_for: Effect
    strongest_against: Effect

    @property
    def verdict(self) -> ClaimVerdict:
        if self.p_for <= ALPHA:
            return "holds"
        return "does not hold" if self.p_against <= ALPHA else "undecided"


@dataclass(frozen=True)
class Finding:
    """What the records of one scale say of a claim."""

    scale: str
    verdict: ClaimVerdict
    reason: str
    effects: list[Effect] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What weakens the verdict or was checked for it: tuning budgets, edges, stale records."""


def fact(what: str, so: bool, value: float = math.nan, unit: str = "") -> Effect:
    """Something counted or computed, which is ``so`` or not."""
    return Effect(what, value, math.nan, math.nan, 1, unit, float(not so), float(so), exact=True)


def not_run(scale: str, reason: str) -> Finding:
    """What is missing before anything can be said."""
    return Finding(scale, "not run", reason)


def single(effect: Effect) -> Evidence:
    return Evidence(effect.p_for, effect.p_against, effect, effect)


def every(parts: Sequence[Evidence]) -> Evidence:
    """The claim is that all parts hold."""
    weakest = max(parts, key=lambda part: part.p_for)
    against = min(parts, key=lambda part: part.p_against)
    return Evidence(
        weakest.p_for,
        min(1.0, len(parts) * against.p_against),
        weakest.strongest_for,
        against.strongest_against,
    )


def some(parts: Sequence[Evidence]) -> Evidence:
    """The claim is that at least one part holds."""
    best = min(parts, key=lambda part: part.p_for)
    last = max(parts, key=lambda part: part.p_against)
    return Evidence(
        min(1.0, len(parts) * best.p_for),
        last.p_against,
        best.strongest_for,
        last.strongest_against,
    )


Expected = Literal["better", "not worse", "level"]


@dataclass(frozen=True)
class Bounds:
    """What is expected of a difference, in words and numbers.

    "better": above ``margin``; refuted where it is shown to be below ``margin``, or, that being
    0, below the ``tolerance``: an advantage that small is none. "not worse": above minus the
    tolerance. "level": within the tolerance.
    """

    expect: Expected
    tolerance: float
    margin: float = 0.0

    def p_values(self, mean: float, error: float, degrees: float) -> tuple[float, float]:
        """For and against, given a mean difference with standard error ``error``."""

        def beyond(bound: float) -> float:
            return tail(mean - bound, error, degrees)

        def below(bound: float) -> float:
            return tail(bound - mean, error, degrees)

        if self.expect == "better":
            return beyond(self.margin), below(self.margin or self.tolerance)
        if self.expect == "not worse":
            return beyond(-self.tolerance), below(-self.tolerance)
        outside = min(beyond(self.tolerance), below(-self.tolerance))
        return max(beyond(-self.tolerance), below(self.tolerance)), min(1.0, 2 * outside)


def tail(distance: float, error: float, degrees: float) -> float:
    """The one-sided p of a mean this ``distance`` above its bound; exact values have error 0."""
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return above(distance / error, degrees)


def paired(
    what: str,
    ours: Scores,
    theirs: Scores,
    bounds: Bounds,
    unit: str,
    *,
    exact: bool = False,
    resolution: float = 0.0,
) -> Effect:
    """``ours`` less ``theirs``, paired by seed; ``exact``: a single run has no noise.

    Scores that come in steps of ``resolution`` (epochs) may agree by it: their spread is taken to
    be that of the rounding, at least. Without any spread nothing is shown.

    A score missing on a seed is a loss there: the side with more losses cannot be shown to be
    better, and is shown to be worse where no score is left on two seeds or more.
    """
    found = compare(ours, theirs)
    n, mean, error = found.n, found.mean, found.error
    lost, other_lost = found.lost, found.other_lost
    every_seed = len(ours.keys() & theirs.keys())
    p_for = p_against = 1.0
    if n > 1:
        error = max(error, resolution / math.sqrt(6) / math.sqrt(n))
        if error > 0 or exact:
            p_for, p_against = bounds.p_values(mean, error, n - 1)
    elif exact and n:
        p_for, p_against = bounds.p_values(mean, 0.0, 1)
    certain = exact and (n < 2 or error == 0)
    half = quantile(n - 1) * error
    if lost != other_lost:
        if lost > other_lost:
            p_for, p_against = 1.0, (0.0 if lost == every_seed > 1 else p_against)
        else:
            p_against, p_for = 1.0, (0.0 if other_lost == every_seed > 1 else p_for)
            if bounds.expect == "level":
                p_for, p_against = 1.0, (0.0 if other_lost == every_seed > 1 else 1.0)
        what += f" ({lost} and {other_lost} of {every_seed} runs without a result)"
    low, high = mean - half, mean + half
    return Effect(what, mean, low, high, n, unit, p_for, p_against, exact=certain)
