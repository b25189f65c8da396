"""Claims about a study's learning rates and its optimizers' memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nos_repro.errors import ConfigError
from nos_repro.experiments.selection import Outcome
from nos_repro.report.claims.evidence import (
    ANY_SCALE,
    Effect,
    Finding,
    every,
    fact,
    not_run,
    single,
)
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.results import Results
from nos_repro.report.distributions import heads_at_most
from nos_repro.report.study.rows import values_per_parameter

HALF_DECADE = 0.5 + 1e-6


@CLAIM_TESTS.register("rates")
@dataclass(frozen=True)
class RatesTest(ClaimTest):
    """The learning rates that the sweeps of ``pairs`` of rows chose (the second row of a pair may
    be of another study, ``against``).

    "larger": the first row's is the larger one in more pairs than a coin would give (sign test,
    equal rates count as not larger). "near": within half a decade, in every pair. A pair with a
    rate at the edge of its grid says nothing, and is left out.
    """

    study: str
    expect: Literal["larger", "near"]
    pairs: Sequence[Sequence[str]]
    against: str = ""

    def __post_init__(self) -> None:
        if any(len(pair) != 2 for pair in self.pairs):
            raise ConfigError("pairs: expected pairs of two rows each")

    @property
    def source(self) -> str:
        return self.study

    def named(self) -> Iterator[tuple[str, str]]:
        for one, other in self.pairs:
            yield self.study, one
            yield self.against or self.study, other

    def judge(self, found: Results, scale: str) -> Finding:
        ours = found.study(self.study, scale)[1]
        theirs = found.study(self.against, scale)[1] if self.against else ours
        rows = [(ours[one], theirs[other]) for one, other in self.pairs]
        waiting = [row for pair in rows for row in pair if _rate(row) is None]
        if waiting:
            return not_run(scale, f"{len(waiting)} of {2 * len(rows)} sweeps have no winner yet")
        free = [pair for pair in rows if not any(_at_edge(row) for row in pair)]
        edged = len(rows) - len(free)
        remarks = [f"{edged} of {len(rows)} pairs have a rate at the edge of its grid"] * (
            edged > 0
        )
        if not free:
            return Finding(scale, "undecided", "every pair has a rate at the edge of its grid",
                           [_ratio(*pair) for pair in rows], remarks)  # fmt: skip
        effects = [_ratio(*pair) for pair in free]
        if self.expect == "near":
            evidence = every([single(effect) for effect in effects])
            decided = evidence.verdict if not edged else "undecided"
            return Finding(scale, decided, _listed(effects), effects, remarks)
        return self._sign_test(scale, effects, remarks)

    def _sign_test(self, scale: str, effects: list[Effect], remarks: list[str]) -> Finding:
        n = len(effects)
        larger = sum(effect.value > 1e-9 for effect in effects)
        p_for = 1 - heads_at_most(larger - 1, n) if larger else 1.0
        p_against = heads_at_most(larger, n)
        whole = single(Effect(f"larger in {larger} of {n} pairs", larger / n, math.nan, math.nan, n,
                              "of the pairs", p_for, p_against))  # fmt: skip
        least = min(p_for, p_against)
        reason = f"larger in {larger} of {n} pairs (sign test, one-sided p = {least:.3f})"
        return Finding(scale, whole.verdict, reason, effects, remarks)


def _rate(outcome: Outcome) -> float | None:
    return None if outcome.chosen is None else outcome.chosen.point.lr


def _at_edge(outcome: Outcome) -> bool:
    return any(edge.startswith("lr=") for edge in outcome.edges)


def _ratio(one: Outcome, other: Outcome) -> Effect:
    mine, its = _rate(one), _rate(other)
    assert mine is not None
    assert its is not None
    ratio = math.log10(mine / its)
    near = abs(ratio) <= HALF_DECADE
    what = f"{one.name} ({mine:g}) against {other.name} ({its:g})"
    return fact(what, near, ratio, "decades")


def _listed(effects: Sequence[Effect]) -> str:
    return "; ".join(f"{effect.what}: {effect.value:+.2g} decades" for effect in effects)


@CLAIM_TESTS.register("memory")
@dataclass(frozen=True)
class MemoryTest(ClaimTest):
    """Each of ``ours`` keeps fewer values per parameter than each of ``theirs``, counted on the
    optimizers themselves."""

    study: str
    ours: Sequence[str]
    theirs: Sequence[str]

    def named(self) -> Iterator[tuple[str, str]]:
        for name in (*self.ours, *self.theirs):
            yield self.study, name

    def judge(self, found: Results, scale: str) -> Finding:
        study = found.declared(self.study)
        kept = {
            name: values_per_parameter(study.rows[name], study.task) for _, name in self.named()
        }
        effects = [
            fact(f"{one} against {other}", kept[one] < kept[other], kept[one] - kept[other],
                 "values per parameter")
            for one in self.ours for other in self.theirs
        ]  # fmt: skip
        words = ", ".join(f"{name} keeps {count:g}" for name, count in kept.items())
        evidence = every([single(effect) for effect in effects])
        return Finding(ANY_SCALE, evidence.verdict, f"{words} per parameter", effects)
