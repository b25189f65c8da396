"""A cascade: a rule is first trained for little, and only a promising one is trained in full.

The stages are a cheap child of its own, then the child's own sweep. At each, a rule goes on if its
reward there is among the best share of those seen lately. The idea is that of the funnels of
AutoML-Zero (Real et al. 2020) and Lion (Chen et al. 2023).

*What a rule that was stopped earns*: the reward that is forecast for it, by isotonic regression of
the rewards of all rules that were trained in full so far on their rewards at that stage. It never
falls as the reward at the stage rises, and never exceeds the best reward that was really earned. So
the algorithm learns how far a rule was from going on, on the scale of the child; a constant would
tell it nothing, the stage's own reward would compare two tasks. A rule that was stopped has the
status `stopped` and is not one of the best rules.

A declared share of the rules that would be stopped, drawn at random, is trained in full all the
same: they show what is lost, and they keep the forecast right where rules are stopped.

Every decision is an event of the log, with the threshold that it was made by, since that depends
on the order in which the children end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nos_repro.errors import ConfigError
from nos_repro.search.child import Child

Stage = Literal["cheap", "sweep"]


@dataclass(frozen=True)
class Cascade:
    """The stages that a rule must pass before its child is trained in full."""

    cheap: Child | None = None
    """A child that costs little, on a task of its own, with the same keys as `child`."""
    keep_cheap: float = 0.5
    """The share of the rules that go on after the cheap child: those that are the best there."""
    keep_sweep: float = 1.0
    """The share that goes on after the sweep of the child itself; 1: all of them."""
    window: int = 200
    """How many rules before it, at the same stage, a rule is compared with."""
    first: int = 20
    """No rule is stopped before this many have been trained in full."""
    anyway: float = 0.05
    """The share of the rules that would be stopped which is trained in full all the same."""

    def __post_init__(self) -> None:
        for key in ("keep_cheap", "keep_sweep"):
            if not 0 < getattr(self, key) <= 1:
                raise ConfigError(f"cascade.{key} must be in (0, 1], got {getattr(self, key)}")
        for key, least in (("window", 2), ("first", 2)):
            if getattr(self, key) < least:
                raise ConfigError(
                    f"cascade.{key} must be at least {least}, got {getattr(self, key)}"
                )
        if not 0 <= self.anyway < 1:
            raise ConfigError(f"cascade.anyway must be in [0, 1), got {self.anyway}")
        if not self.stages:
            raise ConfigError("cascade: no stage stops a rule; give cheap, or keep_sweep below 1")

    @property
    def stages(self) -> list[Stage]:
        """The stages that may stop a rule, in their order."""
        found: list[Stage] = ["cheap"] if self.cheap is not None else []
        return [*found, "sweep"] if self.keep_sweep < 1 else found

    @property
    def passing(self) -> tuple[float, float]:
        """The shares of the rules that go on after the cheap child and after the sweep, those that
        are trained in full anyway included."""
        shares = self.keep_cheap if self.cheap is not None else 1.0, self.keep_sweep
        first, second = (keep + self.anyway * (1 - keep) for keep in shares)
        return first, second

    def seconds(self, cheap: float, sweep: float, rest: float) -> float:
        """What a rule takes on average, by the seconds of each stage."""
        first, second = self.passing
        return cheap + first * (sweep + second * rest)

    def keep(self, stage: Stage) -> float:
        """The share of the rules that pass a stage."""
        return self.keep_cheap if stage == "cheap" else self.keep_sweep
