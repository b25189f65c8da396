"""Sweeps of the learning rate that grow until the best rate lies inside: a pure function.

A grid whose best rate is its largest says less of an optimizer than of the grid. So a sweep can say
where it starts, `lr: {around: 0.1, factor: 3.16, until: inside}`: while a row's best rate is at an
edge, the next rate beyond it is tried. Afterwards the rows with fewer rates try more, beside their
best one, so that all are tuned over equally many. What is tried depends only on the study and on
the records of its sweeps: an interrupted run and a report decide the same.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nos_repro.errors import ConfigError, unknown
from nos_repro.experiments.fit import fitted

DIGITS = 2
"""Rates are rounded to so many significant digits, as people write them."""
LEAST_FACTOR = 1.2
"""With smaller ones, rounding could make two rates equal."""


class Span(NamedTuple):
    """The rates of a sweep as whole steps from the first one, both ends included."""

    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low + 1

    def longer(self, *, upward: bool) -> Span:
        """With one rate more."""
        return Span(self.low, self.high + 1) if upward else Span(self.low - 1, self.high)


@dataclass(frozen=True)
class Growth:
    """How a sweep of the learning rate grows."""

    around: float
    """The rate in the middle of those that are tried first."""
    factor: float = 3.16
    """From one rate to the next."""
    points: int = 3
    """Rates that are tried first; an odd number."""
    most: int = 9
    """Rates at most; if the best one is still at an edge, the table says so."""
    until: str = "inside"
    """When to stop: `inside`, when the best rate lies between two others."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.around) and self.around > 0):
            raise ConfigError(f"around must be a positive finite number, got {self.around}")
        if not LEAST_FACTOR <= self.factor <= 100:
            raise ConfigError(f"factor must be between {LEAST_FACTOR} and 100, got {self.factor}")
        if self.points < 3 or self.points % 2 == 0:
            raise ConfigError(f"points must be an odd number from 3 on, got {self.points}")
        if not self.points <= self.most <= 99:
            raise ConfigError(
                f"most must be between points ({self.points}) and 99, got {self.most}"
            )
        if self.until != "inside":
            raise ConfigError(unknown("value of until:", self.until, ["inside"]))

    @property
    def start(self) -> Span:
        """The rates that are tried first."""
        return Span(-(self.points // 2), self.points // 2)

    @property
    def possible(self) -> Span:
        """Every rate that could be tried, whatever the best ones are."""
        return Span(self.start.high - self.most + 1, self.start.low + self.most - 1)

    def rates(self, span: Span) -> list[float]:
        """The rates of a span, in their order."""
        return [self.rate(step) for step in range(span.low, span.high + 1)]

    def rate(self, step: int) -> float:
        """The rate so many steps from the first one."""
        exact = self.around * self.factor**step
        return float(f"{exact:.{DIGITS}g}") if step else self.around


def growth_of(sweep: Mapping[str, Any], where: str = "sweep") -> Growth | None:
    """How the sweep's rates grow; None if it lists them. Raises ConfigError, which names the key
    below ``where``."""
    values = sweep.get("lr")
    if not isinstance(values, dict):
        return None
    where = f"{where}.lr"
    known = [entry.name for entry in dataclasses.fields(Growth)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: {unknown('key', key, known)}")
    if "around" not in values:
        raise ConfigError(f"{where}: around is missing, the rate to begin with")
    try:
        return Growth(**fitted(Growth, values, where))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}".replace(f"{where}: {where}.", f"{where}.")) from None


class Swept(NamedTuple):
    """What is known of a row's sweep over a span: whether trials are still to end, whether one
    failed by a bug, and the step of the best rate (None: every trial diverged)."""

    waiting: bool
    failed: bool
    best: int | None


def grow(
    growths: Mapping[str, Growth], swept: Callable[[str, Span], Swept]
) -> tuple[dict[str, Span], bool]:
    """The spans that the rows are to sweep, and whether these are final: every best rate inside,
    or its row at its most; equally many rates in each row."""
    spans = {name: growth.start for name, growth in growths.items()}
    while True:
        waiting = False
        for name, growth in growths.items():
            spans[name], more = _inside(growth, spans[name], functools.partial(swept, name))
            waiting = waiting or more
        if waiting:
            return spans, False
        longest = max(map(len, spans.values()))
        shorter = [n for n, g in growths.items() if len(spans[n]) < min(longest, g.most)]
        if not shorter:
            return spans, True
        for name in shorter:
            found = swept(name, spans[name])
            spans[name] = spans[name].longer(upward=_nearer_above(spans[name], found.best))


def _inside(growth: Growth, span: Span, swept: Callable[[Span], Swept]) -> tuple[Span, bool]:
    """The span grown as far as is known, and whether its trials are still to end."""
    while True:
        found = swept(span)
        if found.waiting:
            return span, True
        inside = found.best is not None and span.low < found.best < span.high
        if inside or found.failed or len(span) >= growth.most:
            return span, False
        span = span.longer(upward=found.best == span.high)


def _nearer_above(span: Span, best: int | None) -> bool:
    """Whether the best rate is nearer to the upper end; below is tried first, where nothing
    diverges."""
    return best is not None and span.high - best < best - span.low
