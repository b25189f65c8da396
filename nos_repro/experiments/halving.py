"""Successive halving over a study's rows: which go on and which are stopped, a pure function.

002 sec. 5.1: "we aggressively early stop optimizers that show less promise based on simple
heuristics", which the paper does not print. Ours is a study's section `halving` (`schema.Halving`).
The decision depends only on the study and on the trials' curves up to the rung: an interrupted run,
a clone that has only the records, and a report all decide the same. If the study changes later, a
stopped row continues from its checkpoint.

A row's learning rate is chosen at the first rung: from there on only its best point is trained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Halving


@dataclass(frozen=True)
class RungResult:
    """How a row did at a rung: its rank among ``of`` rows, of which ``kept`` went on."""

    rung: int
    rank: int
    of: int
    kept: int

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.of}"


@dataclass(frozen=True)
class Standing:
    """Where a row stands; numbers in ``points`` and ``best`` count along the row's grid.

    ``points`` are still in: all before the first rung, then the best one, none when the row is
    out. They train to epoch ``until``. ``best`` and ``place`` (at the last rung that the row
    reached) are None before the first rung is decided.
    """

    points: tuple[int, ...]
    until: int
    best: int | None = None
    place: RungResult | None = None


@dataclass(frozen=True)
class Stage:
    """After a rung: ``rows`` of ``of`` train one point each from epoch ``start`` to ``end``."""

    rows: int
    of: int
    start: int
    end: int

    @property
    def epochs(self) -> int:
        return self.rows * (self.end - self.start)


def standings(
    halving: Halving, epochs: int, rows: Mapping[str, Sequence[Record | None]]
) -> dict[str, Standing]:
    """Where every row stands. ``rows`` gives the records so far of each row's sweep, in the grid's
    order, None for a trial without one; ``epochs`` is the full length.

    A rung is decided when every trial that is still in has reached it. A divergence before it ranks
    last and does not go on, and neither does a failure; equal rows rank in the study's order, equal
    points in the grid's.
    """
    ends = [*halving.rungs, epochs]
    now = {name: Standing(tuple(range(len(records))), ends[0]) for name, records in rows.items()}
    for rung, then in itertools.pairwise(ends):
        racing = {name: standing.points for name, standing in now.items() if standing.points}
        if not all(_reached(rows[n][p], rung) for n, points in racing.items() for p in points):
            break
        scores = {n: {p: score(rows[n][p], halving.by, rung) for p in racing[n]} for n in racing}
        best = {name: max(of, key=of.__getitem__) for name, of in scores.items()}
        order = sorted(racing, key=lambda name: -scores[name][best[name]])
        kept = [n for n in order[: places(halving, len(order))] if scores[n][best[n]] > -math.inf]
        for rank, name in enumerate(order, 1):
            points = (best[name],) if name in kept else ()
            place = RungResult(rung, rank, len(order), len(kept))
            now[name] = Standing(points, then, best[name], place)
    return now


def places(halving: Halving, rows: int) -> int:
    """ceil(keep * rows), with ``keep`` exactly as written: 0.55 of 100 rows are 55."""
    return math.ceil(Fraction(str(halving.keep)) * rows)


def why_out(
    halving: Halving, standing: Standing, point: int, names: Sequence[object]
) -> tuple[int, str]:
    """The rung at which a point that is out was stopped, and the reason in words; ``names`` are
    those of the row's points."""
    place, first = standing.place, halving.rungs[0]
    assert place is not None
    assert standing.best is not None
    if point == standing.best or (place.rung == first and not standing.points):
        return place.rung, f"stopped at epoch {place.rung}: {place}, {place.kept} went on"
    return first, f"stopped at epoch {first}: {names[standing.best]} of its row was better"


def stages(halving: Halving, epochs: int, now: Mapping[str, Standing]) -> Iterator[Stage]:
    """The stages that follow the rung to which the rows are training."""
    racing = [standing for standing in now.values() if standing.points]
    rows = len(racing)
    for rung, end in itertools.pairwise([*halving.rungs, epochs]):
        if racing and rung >= racing[0].until:
            going = places(halving, rows)
            yield Stage(going, rows, rung, end)
            rows = going


def whole(halving: Halving, epochs: int, points: Mapping[str, int]) -> int:
    """Total epochs of training from the start; ``points`` gives the number of points per row."""
    start = standings(halving, epochs, {name: [None] * n for name, n in points.items()})
    later = sum(stage.epochs for stage in stages(halving, epochs, start))
    return sum(points.values()) * halving.rungs[0] + later


def _reached(record: Record | None, rung: int) -> bool:
    """Whether everything is known about a trial that can be known at ``rung``."""
    return record is not None and (not record.partial or record.epoch >= rung)


def score(record: Record | None, by: str, rung: int) -> float:
    """Higher is better, whatever the metric; -inf if the trial did not reach the rung."""
    if record is None or record.epoch < rung:
        return -math.inf
    value = record.column_at(by, rung)
    return record.sign * value if math.isfinite(value) else -math.inf
