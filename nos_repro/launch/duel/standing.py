"""How a duel stands: what its records say, what they have cost, whether pairs are added."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nos_repro.experiments.record import Record
from nos_repro.experiments.selection import Outcome
from nos_repro.launch.duel.contest import Duel
from nos_repro.launch.duel.judgement import Judgement, judge

if TYPE_CHECKING:
    from nos_repro.launch.cost import Unit

Ending = Literal["decided", "seeds", "budget", "no rate trains", "failed", "not finished"]


@dataclass(frozen=True)
class Spent:
    """Hours of the unit's devices, according to the records: of tuning, and of pairs."""

    unit: Unit
    tuning: float
    pairs: float

    @property
    def hours(self) -> float:
        return self.tuning + self.pairs


@dataclass(frozen=True)
class DuelOutcome:
    """A duel as it stands: its rows, its verdict, why no seeds are added, what it has cost."""

    duel: Duel
    one: Outcome
    other: Outcome
    judgement: Judgement
    ended: Ending
    spent: Spent

    @property
    def stale(self) -> bool:
        return self.one.stale or self.other.stale


def standing(duel: Duel, rows: Mapping[str, Outcome], unit: Unit) -> DuelOutcome:
    pairs = duel.pairs(rows)
    judgement = judge(pairs, duel.names(rows), duel.margin)
    one, other = rows[duel.one], rows[duel.other]
    tuning = {s.record.id: s.record for row in (one, other) for s in row.sweep if s.record}
    repeats = {r.id: r for row in (one, other) for _, r in row.repeats if r is not None}
    spent = Spent(unit, *(unit.hours(_seconds(each)) for each in (tuning, repeats)))
    found = DuelOutcome(duel, one, other, judgement, "not finished", spent)
    return dataclasses.replace(found, ended=_ending(found, len(pairs)))


def _seconds(records: dict[str, Record]) -> float:
    return sum(record.seconds for record in records.values())


def _ending(found: DuelOutcome, pairs: int) -> Ending:
    if found.judgement.final:
        return "decided"
    rows = (found.one, found.other)
    if any(row.failed for row in rows):
        return "failed"
    if any(row.chosen is None and not row.missing and not row.growing for row in rows):
        return "no rate trains"
    if pairs >= found.duel.limits.most:
        return "seeds"
    return "not finished" if is_running(found) or _affordable(found, pairs) else "budget"


def is_running(found: DuelOutcome) -> bool:
    """Whether trials that were asked for have not ended."""
    return any(row.missing or row.growing for row in (found.one, found.other))


def wanted(found: DuelOutcome, asked: int, batch: int) -> int:
    """How many pairs to add now to the ``asked``; 0 if the duel ends here."""
    if found.ended != "not finished" or is_running(found):
        return 0
    return min(batch, found.duel.limits.most - asked, _affordable(found, asked))


def _affordable(found: DuelOutcome, pairs: int) -> int:
    """How many more pairs fit into the hours, by what the pairs so far have taken."""
    limit, spent = found.duel.limits.hours, found.spent
    if limit is None:
        return found.duel.limits.most
    each = spent.pairs / pairs if pairs and spent.pairs else _pair_hours(found)
    return max(0, math.floor((limit - spent.hours) / each)) if each else found.duel.limits.most


def _pair_hours(found: DuelOutcome) -> float:
    """A pair's hours by those of the sweep, if no pair has ended."""
    study = found.duel.study
    longer = study.training.epochs / (study.selection.sweep_epochs or study.training.epochs)
    trials = len(found.one.sweep) + len(found.other.sweep)
    return 2 * longer * found.spent.tuning / trials


def progress_words(found: DuelOutcome) -> str:
    """`6 pairs: PowerSign less Adam +0.42 [-0.10, +0.94]`."""
    judgement, duel = found.judgement, found.duel
    estimate, signed = judgement.estimate, duel.metric.signed
    pairs = f"{judgement.pairs} pair{'s' * (judgement.pairs > 1)}"
    if not estimate.n:
        return f"{pairs}: none in which both finish"
    sign = duel.metric.sign
    ends = sorted((sign * estimate.low, sign * estimate.high))
    interval = f" [{signed(ends[0])}, {signed(ends[1])}]" if math.isfinite(estimate.half) else ""
    return f"{pairs}: {duel.one} less {duel.other} {signed(sign * estimate.mean)}{interval}"
