"""`claims --plan HOURS`: which runs would decide the most claims, by the spread seen so far."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nos_repro.experiments.schema import Study
from nos_repro.report.claims.judge import Judged
from nos_repro.report.claims.kinds.base import ClaimTest
from nos_repro.report.claims.more_seeds import NEAR, SEEDS, chance, said_of, unhelped
from nos_repro.report.claims.results import Results, Rows
from nos_repro.report.layout import Cell, Column, ReportTable


@dataclass(frozen=True)
class MoreSeeds:
    """So many ``more`` seeds for every row of a study, their core-hours, and the chance of each
    undecided claim to be decided by then."""

    study: str
    scale: str
    seeds: int
    more: int
    hours: float
    chances: dict[str, float]

    @property
    def decided(self) -> float:
        """The claims that it is expected to decide."""
        return math.fsum(self.chances.values())


@dataclass(frozen=True)
class SeedPlan:
    """What fits into the hours; ``needed``: for each undecided claim, how many seeds more would
    decide it with a chance of NEAR (None: more than are considered); ``others``: the undecided
    claims that no seed decides, and why."""

    hours: float
    chosen: list[MoreSeeds] = field(default_factory=list)
    needed: dict[str, int | None] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        return math.fsum(option.hours for option in self.chosen)


def plan_of(judged: Sequence[Judged], found: Results, hours: float) -> SeedPlan:
    """The seeds that decide the most claims in ``hours`` core-hours of machines like those that
    made the records: of each study the step with the most claims an hour, again and again."""
    open_claims: dict[tuple[str, str], dict[str, ClaimTest]] = {}
    plan = SeedPlan(hours)
    for each in judged:
        for finding in each.findings:
            if finding.verdict == "not run":
                plan.others[each.claim.id] = f"not run: {finding.reason}"
            if finding.verdict != "undecided" or each.claim.test is None:
                continue
            reason = unhelped(each.claim.test, found, finding.scale)
            if reason:
                plan.others[each.claim.id] = reason
            else:
                at = each.claim.test.source, finding.scale
                open_claims.setdefault(at, {})[each.claim.id] = each.claim.test
    options = {at: _options(found, at, tests) for at, tests in open_claims.items()}
    for of_study in options.values():
        for claim in of_study[0].chances:
            enough = (option.more for option in of_study if option.chances[claim] >= NEAR)
            plan.needed[claim] = next(enough, None)
    plan.chosen.extend(_spend(options, hours))
    return plan


def _options(found: Results, at: tuple[str, str], tests: dict[str, ClaimTest]) -> list[MoreSeeds]:
    study, rows = found.study(*at)
    seconds = _seconds_of_a_seed(study, rows)
    return [
        MoreSeeds(
            *at,
            seeds=study.selection.repeats,
            more=more,
            hours=more * seconds / 3600,
            chances={claim: chance(test, found, at[1], more) for claim, test in tests.items()},
        )
        for more in SEEDS
    ]


def _seconds_of_a_seed(study: Study, rows: Rows) -> float:
    """Of a core, for one more run of every row, by the records of its repeats."""
    return math.fsum(
        statistics.fmean(record.seconds for record in outcome.counting)
        for outcome in rows.values()
        if outcome.counting
    )


def _spend(options: dict[tuple[str, str], list[MoreSeeds]], hours: float) -> Iterator[MoreSeeds]:
    """Greedily: the step that adds the most claims an hour, as long as one fits."""
    now: dict[tuple[str, str], MoreSeeds | None] = dict.fromkeys(options)
    while True:
        spent = math.fsum(option.hours for option in now.values() if option is not None)
        steps = []
        for at, of_study in options.items():
            known = now[at]
            paid, gained = (known.hours, known.decided) if known is not None else (0.0, 0.0)
            for option in of_study:
                cost, gain = option.hours - paid, option.decided - gained
                if cost > 0 and gain > 0.01 and spent + cost <= hours:
                    steps.append((gain / cost, at, option))
        if not steps:
            break
        _, at, best = max(steps, key=lambda step: step[0])
        now[at] = best
    yield from (option for option in now.values() if option is not None)


def plan_table(plan: SeedPlan) -> ReportTable:
    """The plan: what to run, what each undecided claim needs, and what no seed decides."""
    heading = [
        f"What {plan.hours:g} core-hours decide, by the spread seen so far",
        f"{len(plan.chosen)} studies, {plan.spent:.1f} core-hours,"
        f" {sum(option.decided for option in plan.chosen):.1f} claims expected to be decided.",
    ]
    columns = [
        Column(title) for title in ("command", "seeds", "core-hours", "decides, with what chance")
    ]
    rows = [
        [
            Cell(_command(option)),
            Cell(f"{option.seeds} + {option.more}"),
            Cell(f"{option.hours:.2f}"),
            Cell(", ".join(f"{claim} {value:.0%}" for claim, value in option.chances.items())),
        ]
        for option in plan.chosen
    ]
    notes = [f"{claim}: {said_of(more)}" for claim, more in plan.needed.items()]
    notes += [f"{claim}: {why}" for claim, why in plan.others.items()]
    return ReportTable(heading, columns, rows, notes)


def _command(option: MoreSeeds) -> str:
    repeats = option.seeds + option.more
    return f"run {option.study} --scale {option.scale} selection.repeats={repeats}"
