"""How many seeds more would decide a claim, by the spread seen so far.

More seeds for a study's rows narrow the intervals of every claim about it. What a new seed would
say is drawn from what the seeds so far say: a mean and a variance from their joint posterior under
a flat prior (the mean is Student's t about the sample's, the variance an inverse chi-square), then
normal differences. The share of such draws in which the verdict is decided is the chance that so
many seeds decide the claim. It counts a wrong verdict too; these are as rare as in the verdicts.

Draws of different comparisons are independent, though comparisons share rows: the chances of claims
with many comparisons are approximate.
"""

from __future__ import annotations

import functools
import math
import random
import statistics

from nos_repro.report.claims.kinds.base import ClaimTest
from nos_repro.report.claims.results import Results
from nos_repro.report.statistics import Scores, compare

DRAWS = 200
SEEDS = (1, 2, 3, 5, 8, 12, 20, 30)
"""How many seeds more are considered for a study."""
NEAR = 0.8
"""The chance at which so many seeds are said to decide a claim."""


def extended(
    ours: Scores, theirs: Scores, *, more: int, source: random.Random
) -> tuple[Scores, Scores]:
    """Both with ``more`` seeds, of which only the differences mean anything."""
    known = compare(ours, theirs)
    if known.n < 2 or not more:
        return ours, theirs
    spread = known.error * math.sqrt(known.n)
    degrees = known.n - 1
    chi_square = source.gammavariate(degrees / 2, 2)
    sigma = spread * math.sqrt(degrees / chi_square)
    mean = source.gauss(known.mean, sigma / math.sqrt(known.n))
    new = range(-more, 0)  # no seed of a study is negative
    return (
        {**ours, **{seed: source.gauss(mean, sigma) for seed in new}},
        {**theirs, **dict.fromkeys(new, 0.0)},
    )


def chance(test: ClaimTest, found: Results, scale: str, more: int) -> float:
    """How often the claim is decided by so many seeds more."""
    source = random.Random(more)
    extend = functools.partial(extended, more=more, source=source)
    verdicts = [test.foresee(found, scale, extend) for _ in range(DRAWS)]
    return statistics.fmean(verdict in ("holds", "does not hold") for verdict in verdicts)


def unhelped(test: ClaimTest, found: Results, scale: str) -> str:
    """Why no seed decides the claim; "" if seeds may."""
    if test.foresee(found, scale, lambda ours, theirs: (ours, theirs)) is None:
        return "it is not decided by seeds"
    study, rows = found.study(test.source, scale)
    if not study.selection.repeats:
        return "its rows are not repeated: set selection.repeats"
    asked = [rows[row] for _, row in test.named()]
    if min(len(outcome.counting) for outcome in asked) < 2:
        return "one run per row has no spread: train a second seed first"
    edged = [outcome.name for outcome in asked if outcome.edges]
    sizes = {len(outcome.sweep) for outcome in asked}
    far = functools.partial(extended, more=SEEDS[-1], source=random.Random(0))
    if all(test.foresee(found, scale, far) == "undecided" for _ in range(DRAWS)):
        if edged:
            return f"{len(edged)} rows are at the edge of their grids, such as {edged[0]}"
        if len(sizes) > 1:
            return "its rows were tuned over different numbers of points"
        return f"not even {SEEDS[-1]} seeds more would decide it"
    return ""


def needed(test: ClaimTest, found: Results, scale: str) -> str:
    """How many seeds more decide an undecided claim; "" if no seed does (`unhelped`)."""
    if unhelped(test, found, scale):
        return ""
    enough = (more for more in SEEDS if chance(test, found, scale, more) >= NEAR)
    return said_of(next(enough, None))


def said_of(more: int | None) -> str:
    if more is None:
        return f"{SEEDS[-1]} seeds more decide it with a chance below {NEAR:.0%}"
    return f"{more} seeds more decide it with a chance of at least {NEAR:.0%}"
