"""What the pairs of a duel say: a pure function of them, whatever the order they were trained in.

Pairs are looked at in the order of their seeds, and the first that decides ends the duel: what was
trained beyond it (a batch may be) is not looked at. So a resumed run, a clone that has only the
records, and a run with other workers all give one verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from nos_repro.launch.duel.sequence import LOST_ALPHA, MOST_PAIRS, MeanDifference, coin_evidence

Verdict = Literal["better", "worse", "equivalent", "open", "undecided"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
SEEDLESS = 3
"""Pairs that are alike in all that their runs measured show that the seed changes nothing. Scores
alone may be alike by chance: many a run ends at 100 %."""


@dataclass(frozen=True)
class Pair:
    """The scores of the two rows on one seed, larger is better; None where the run diverged.

    ``curves``: all that the two runs measured.
    """

    seed: int
    one: float | None
    other: float | None
    curves: object = None

    @property
    def difference(self) -> float | None:
        return None if self.one is None or self.other is None else self.one - self.other


@dataclass(frozen=True)
class Judgement:
    """What a row is against the other: ``better``, ``worse``, ``equivalent`` (within the margin),
    ``open`` (the other's best rate is at the edge of its grid, so nobody loses), ``undecided``.

    ``pairs`` were looked at. ``estimate`` is of the first less the second, where both have a score;
    ``lost`` and ``other_lost`` are the pairs in which only this one, or only the other, diverged.
    ``final``: more pairs would change nothing. ``more`` pairs would decide, were mean and spread to
    stay; None for more than MOST_PAIRS, or where that is not known.
    """

    verdict: Verdict
    reason: str
    pairs: int
    estimate: MeanDifference
    lost: int
    other_lost: int
    final: bool
    more: int | None = None


@dataclass(frozen=True)
class Names:
    """The two rows in words, and the chosen values at the edges of their grids."""

    one: str
    other: str
    one_edges: tuple[str, ...] = ()
    other_edges: tuple[str, ...] = ()


def judge(pairs: Sequence[Pair], names: Names, margin: float | None = None) -> Judgement:
    """The verdict of the first pairs that decide, or on all of them. ``margin``: a difference that
    certainly is no larger is none."""
    for n in range(1, len(pairs) + 1):
        found = _Look(pairs[:n], names, margin)
        if (decided := found.decision()) is not None:
            return decided
    return _Look(pairs, names, margin).undecided()


class _Look:
    """The first pairs of a duel, as they are looked at."""

    def __init__(self, pairs: Sequence[Pair], names: Names, margin: float | None) -> None:
        self.pairs, self.names, self.margin = pairs, names, margin
        both = [d for pair in pairs if (d := pair.difference) is not None]
        scores = [s for pair in pairs for s in (pair.one, pair.other) if s is not None]
        self.estimate = MeanDifference.of(both, max(map(abs, scores), default=0.0))
        self.lost = sum(pair.one is None and pair.other is not None for pair in pairs)
        self.other_lost = sum(pair.other is None and pair.one is not None for pair in pairs)

    def decision(self) -> Judgement | None:
        """What the pairs decide; None where more are needed."""
        if coin_evidence(self.lost, self.other_lost) >= 1 / LOST_ALPHA:
            first = self.lost < self.other_lost
            loser = self.names.other if first else self.names.one
            fewer, more = sorted((self.lost, self.other_lost))
            return self._won(first, f"{loser} alone diverged in {more} pairs, the other in {fewer}")
        even = self.lost == self.other_lost
        if self.margin is not None and even and self.estimate.within(self.margin):
            return self._said("equivalent", f"the interval lies within ±{self.margin:g}")
        if self.estimate.excludes_zero and not self._ahead_diverges_more:
            return self._won(self.estimate.mean > 0, "the interval leaves out 0")
        if _seedless(self.pairs):
            return self._said("undecided", "the seed changes nothing: every pair is the same one")
        return None

    def undecided(self) -> Judgement:
        more = self.estimate.more(self.margin)
        if self.estimate.excludes_zero and self._ahead_diverges_more:
            ahead = self.names.one if self.estimate.mean > 0 else self.names.other
            reason = f"{ahead} is ahead where both finish, and diverges more often"
            more = None
        elif not self.estimate.spread > 0:
            reason = "too few pairs to know their spread"
        elif more is None:
            reason = f"{MOST_PAIRS:,} pairs would not decide at this mean and spread"
        else:
            reason = f"about {more} more would decide at this mean and spread"
        return self._said("undecided", reason, final=False, more=more)

    @property
    def _ahead_diverges_more(self) -> bool:
        ahead, behind = self.lost, self.other_lost
        return ahead > behind if self.estimate.mean > 0 else behind > ahead

    def _won(self, first: bool, reason: str) -> Judgement:
        names = self.names
        loser, edges = (names.other, names.other_edges) if first else (names.one, names.one_edges)
        if not edges:
            return self._said("better" if first else "worse", reason)
        said = f"{loser}'s best {', '.join(edges)} is at the edge of its grid: a wider one may win"
        return self._said("open", f"{reason}, but {said}")

    def _said(
        self, verdict: Verdict, reason: str, *, final: bool = True, more: int | None = None
    ) -> Judgement:
        seen = len(self.pairs)
        known = (self.estimate, self.lost, self.other_lost)
        return Judgement(verdict, reason, seen, *known, final, more)


def _seedless(pairs: Sequence[Pair]) -> bool:
    if len(pairs) < SEEDLESS:
        return False
    first = pairs[0]
    alike = all(
        (pair.one, pair.other, pair.curves) == (first.one, first.other, first.curves)
        for pair in pairs
    )
    return alike and None not in (first.one, first.other)
