"""Claims about how soon a search algorithm finds good rules, and whether its rewards rise, decided
by the arena's runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nos_repro.report.arena.files import arena_of
from nos_repro.report.arena.standing import RowStanding, median_of
from nos_repro.report.arena.table import interval
from nos_repro.report.claims.evidence import (
    ANY_SCALE,
    Bounds,
    Effect,
    Evidence,
    Finding,
    every,
    not_run,
    paired,
    single,
)
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.results import Results
from nos_repro.search.arena.runs import FAILURE

Counts: TypeAlias = dict[int, int]

SAVES = 0.2
"""A saving that is shown to be below this share of the strings is none."""


@CLAIM_TESTS.register("arena")
@dataclass(frozen=True)
class ArenaTest(ClaimTest):
    """``ours`` needs fewer strings than ``theirs``, two rows of an arena, until the first rule of
    the narrowest top, and until its policy has converged.

    Runs are paired by seed and compared by logarithms. A run that never gets there counts as
    FAILURE times the most strings that it could have drawn.
    """

    arena: str
    ours: str
    theirs: str

    def judge(self, found: Results, scale: str) -> Finding:
        standing = arena_of(self.arena, found.root)
        rows = [standing.row(name) for name in (self.ours, self.theirs)]
        done = [0 if row is None else len(row.records) for row in rows]
        ours, theirs = rows
        if ours is None or theirs is None or not (ours.complete and theirs.complete):
            wanted = standing.arena.seeds
            return not_run(ANY_SCALE, f"{min(done)} of {wanted} seeds are on record")
        top = f"the first rule of the top {standing.arena.top[-1]:.1%}"
        parts = [
            (top, _strings(ours), _strings(theirs)),
            ("convergence", _converged(ours), _converged(theirs)),
        ]
        effects = [self._effect(*part) for part in parts]
        reason = "; ".join(
            f"strings to {what}: {self.ours} {_said(ours, mine)},"
            f" {self.theirs} {_said(theirs, its)}"
            for what, mine, its in parts
        )
        tuning = standing.arena.tuning
        remarks = [
            f"on a table of rules ({standing.arena.table}, {standing.arena.task}), not by training,"
            f" and for this table alone; a run without one counts as {FAILURE} budgets",
            *(
                self._of_those_that_arrived(what, _arrived(ours, mine), _arrived(theirs, its))
                for what, mine, its in parts
            ),
        ]
        if tuning is not None:
            remarks.append(
                f"each was tuned over {tuning.configurations} configurations x {tuning.seeds} seeds"
                f" on the table {tuning.table}"
            )
        remarks += [
            f"{row.name}: {' and '.join(row.edges)} at the edge of its grid"
            for row in (ours, theirs)
            if row.edges
        ]
        mine = (f"{self.ours}:", f"{self.theirs}:")
        remarks += [problem for problem in standing.problems if problem.startswith(mine)]
        return Finding(ANY_SCALE, every([*map(single, effects)]).verdict, reason, effects, remarks)

    def _effect(self, what: str, ours: Counts, theirs: Counts) -> Effect:
        """The doublings that are saved: positive where ours needs fewer strings."""
        return paired(
            f"log2 of the strings of {self.theirs} over those of {self.ours}, to {what}",
            {seed: -math.log2(strings) for seed, strings in ours.items()},
            {seed: -math.log2(strings) for seed, strings in theirs.items()},
            Bounds("better", tolerance=-math.log2(1 - SAVES)),
            "doublings",
        )

    def _of_those_that_arrived(self, what: str, ours: Counts, theirs: Counts) -> str:
        """The same without the runs that never got there. How many these are, times what each of
        them counts, may be all of the difference: then fewer fail, and none is faster."""
        both = sorted(ours.keys() & theirs.keys())
        if not both:
            return f"{what}: no seed with which both got there"
        mine, its = ({seed: counts[seed] for seed in both} for counts in (ours, theirs))
        return f"of the seeds with which both got there: {self._effect(what, mine, its)}"


@CLAIM_TESTS.register("arena_rises")
@dataclass(frozen=True)
class ArenaRisesTest(ClaimTest):
    """The rewards of the children (a rule's first string trains it) rise along the searches of a
    row of an arena, whose runs are compared by seed.

    "mean": the mean reward of the last quarter of the children is above that of the first. It is
    refuted only if neither theirs nor that of all strings rose: a policy that repeats a few good
    rules raises the latter. "best": the best tenth of the children come later than in a random
    order. The best so far never falls in any search, so that says nothing.

    The reference's own rise is said beside it: rules that many strings write are met first, so that
    the rewards of random search need not stay level either.
    """

    arena: str
    row: str
    what: Literal["mean", "best"]

    def judge(self, found: Results, scale: str) -> Finding:
        standing = arena_of(self.arena, found.root)
        row = standing.row(self.row)
        if row is None or not row.complete:
            done = 0 if row is None else len(row.records)
            return not_run(ANY_SCALE, f"{done} of {standing.arena.seeds} seeds are on record")
        effects = self._effects(row)
        against = max(effects, key=lambda effect: effect.p_against)
        evidence = Evidence(effects[0].p_for, against.p_against, effects[0], against)
        remarks = [
            f"{row.name} on a table of rules ({standing.arena.table}, {standing.arena.task}), not"
            " by training; refused rules are strings with a reward of 0, and no children",
            *(problem for problem in standing.problems if problem.startswith(f"{row.name}:")),
        ]
        beside = standing.reference
        if beside is not None and beside is not row and beside.complete:
            said = "; ".join(map(str, self._effects(beside)))
            remarks.append(f"beside it {beside.name}, over its own children and strings: {said}")
        reason = "; ".join(map(str, effects))
        return Finding(ANY_SCALE, evidence.verdict, reason, effects, remarks)

    def _effects(self, row: RowStanding) -> list[Effect]:
        if self.what == "best":
            return [_later(row)]
        return [_rise(row, "children"), _rise(row, "strings")]


def _rise(row: RowStanding, what: str) -> Effect:
    ends = {r["run"]["seed"]: r["ends"][what] for r in row.records if r["ends"][what] is not None}
    first, last = ({seed: pair[end] for seed, pair in ends.items()} for end in (0, 1))
    title = f"{what}: mean reward of the last quarter less the first's"
    return paired(title, last, first, Bounds("better", tolerance=0.0), "reward")


def _later(row: RowStanding) -> Effect:
    known = [record for record in row.records if record["place"] is not None]
    places = {record["run"]["seed"]: record["place"] - 0.5 for record in known}
    title = "how much later than by chance the best tenth of the children came (of the way)"
    by_chance = dict.fromkeys(places, 0.0)
    return paired(title, places, by_chance, Bounds("better", tolerance=0.0), "of the way")


def _strings(row: RowStanding) -> Counts:
    """For every seed, the strings until the first rule of the narrowest top."""
    found = {record["run"]["seed"]: record["found"][-1] for record in row.records}
    return _counted(row, {seed: one and one[1] for seed, one in found.items()})


def _converged(row: RowStanding) -> Counts:
    """For every seed, the strings until the policy had converged."""
    return _counted(row, {r["run"]["seed"]: r["converged"] for r in row.records})


def _counted(row: RowStanding, strings: Mapping[int, int | None]) -> Counts:
    failure = FAILURE * row.records[0]["run"]["draws"]
    return {seed: failure if count is None else count for seed, count in strings.items()}


def _said(row: RowStanding, counts: Counts) -> str:
    """The median, and how many runs got there."""
    there = _arrived(row, counts)
    known = [float(there.get(seed, math.inf)) for seed in counts]
    return f"{interval(median_of(known), ',.0f')} ({len(there)} of {len(counts)} runs)"


def _arrived(row: RowStanding, counts: Counts) -> Counts:
    """The strings of the runs that got there."""
    failure = FAILURE * row.records[0]["run"]["draws"]
    return {seed: count for seed, count in counts.items() if count < failure}
