"""Which algorithm needs fewer samples. The test was fixed before the first run that counts.

Pairs of runs with the same seed (the same first weights) are compared by the logarithm of their
sample counts. The test flips the signs of the ten differences in all 1,024 ways: p is the share of
them whose mean is at least as far from 0. A censored run counts as the cap, which favours the
side that was censored. The ratio of medians is 1 where neither side's median run arrived, and
says only that.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from nos_repro.search.efficiency.runs import RunRecord, needed, of

LEVEL = 0.05
RESAMPLES, SEED = 10_000, 2017
NAMES = {"ppo": "PPO", "trpo": "TRPO", "reinforce": "REINFORCE", "random": "random search"}


@dataclass(frozen=True)
class EfficiencyComparison:
    """Ours over theirs.

    factor: the geometric mean over the pairs, which p belongs to; ratio: of the medians, with its
    95 % interval; arrived: how many runs of either were not censored.
    """

    ours: str
    theirs: str
    factor: float
    p: float
    ratio: float
    interval: tuple[float, float]
    arrived: tuple[int, int]
    pairs: int

    @property
    def words(self) -> str:
        """The verdict: PPO needs fewer samples than REINFORCE."""
        ours, theirs = NAMES[self.ours], NAMES[self.theirs]
        if self.p >= LEVEL:
            return f"{ours} and {theirs} are not told apart"
        return f"{ours} needs {'fewer' if self.factor < 1 else 'more'} samples than {theirs}"

    def __str__(self) -> str:
        low, high = self.interval
        ours, theirs = self.arrived
        return (
            f"{self.words}: {self.factor:.2f} times as many, p = {self.p:.3f};"
            f" ratio of medians {self.ratio:.2f} [{low:.2f}, {high:.2f}];"
            f" {ours} and {theirs} of {self.pairs} arrived"
        )


def compare_samples(records: Iterable[RunRecord], ours: str, theirs: str) -> EfficiencyComparison:
    """Two algorithms by their final runs."""
    by_name = {name: of(records, part="final", algorithm=name) for name in (ours, theirs)}
    pairs = [
        (needed(a), needed(b))
        for a, b in zip(by_name[ours], by_name[theirs], strict=True)
        if a["seed"] == b["seed"]
    ]
    logs = [math.log(a / b) for a, b in pairs]
    first, second = (sum(run["needed"] is not None for run in runs) for runs in by_name.values())
    return EfficiencyComparison(
        ours,
        theirs,
        factor=math.exp(fmean(logs)),
        p=sign_flip_test(logs),
        ratio=_ratio(pairs),
        interval=interval(pairs),
        arrived=(first, second),
        pairs=len(pairs),
    )


def sign_flip_test(differences: Sequence[float]) -> float:
    """The exact two-sided p of a mean this far from 0, if every sign were a coin toss."""
    seen = abs(fmean(differences)) - 1e-12
    flips = itertools.product((-1, 1), repeat=len(differences))
    means = (fmean(sign * x for sign, x in zip(signs, differences, strict=True)) for signs in flips)
    return fmean(abs(mean) >= seen for mean in means)


def interval(pairs: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The 2.5 and 97.5 % quantiles of the ratio of medians over resampled pairs (bootstrap)."""
    source = random.Random(SEED)
    ratios = sorted(_ratio(source.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return ratios[RESAMPLES // 40], ratios[-RESAMPLES // 40 - 1]


def _ratio(pairs: Sequence[tuple[int, int]]) -> float:
    ours, theirs = zip(*pairs, strict=True)
    return float(median(ours) / median(theirs))
