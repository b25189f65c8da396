"""What tasks measure: each metric knows everything that a table, a verdict, a claim, an axis or a
search asks about it. This module imports neither torch nor Lightning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nos_repro.errors import ConfigError, unknown

LARGEST_EXPONENT = 700.0
"""Above this, e to that power no longer fits into a float."""
ROUNDING = 1e-6
"""A value may be outside its range by this share of it: sums are rounded."""


@dataclass(frozen=True)
class Tolerance:
    """The largest difference that does not change what a reader would conclude.

    ``size`` is in the metric's own unit or, if ``relative``, a share of the value compared with.
    ``why`` continues after the size: "points, a quarter of the range of Table 2".
    """

    size: float
    relative: bool = False
    why: str = ""

    def at(self, value: float) -> float:
        """The tolerance for a difference from ``value``."""
        return self.size * abs(value) if self.relative else self.size

    def __str__(self) -> str:
        size = f"{self.size:.0%}" if self.relative else f"{self.size:g}"
        return f"±{size} {self.why}".strip()


@dataclass(frozen=True)
class Metric:
    """A metric of a task.

    ``name`` is its key in what `Task.metrics` returns, and its name in a column
    (`final_test_NAME`). ``direction`` says which end is better. ``unit`` is that of a difference
    ("points", "mm"). ``tolerance`` decides what a verdict calls the same. ``label`` names it on an
    axis (default: its name, with its unit in brackets). ``digits`` are the decimals of a
    difference. ``range`` holds its least and its largest possible value, infinite where there is no
    bound. ``to_reward`` turns a value into the reward of a search's child (`reward`), which a
    metric without both bounds needs. ``of_loss`` computes its value from the mean loss of the
    training part, for which only the loss is recorded; None if it does not follow from the loss.

    Raises ConfigError for impossible values.
    """

    name: str
    direction: Literal["max", "min"]
    unit: str
    tolerance: Tolerance
    label: str = ""
    digits: int = 2
    range: tuple[float, float] = (-math.inf, math.inf)
    to_reward: Callable[[float], float] | None = None
    of_loss: Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"a metric's name must be a plain word, got {self.name!r}")
        if self.direction not in ("max", "min"):
            raise ConfigError(unknown(f"direction of {self.name}", self.direction, ("max", "min")))
        if not (math.isfinite(self.tolerance.size) and self.tolerance.size >= 0):
            raise ConfigError(f"the tolerance of {self.name} must be a finite number, at least 0")
        if not (len(self.range) == 2 and self.range[0] < self.range[1]):
            raise ConfigError(
                f"the range of {self.name} must be its least and its largest value, got"
                f" {self.range}"
            )

    @property
    def words(self) -> str:
        """The name as it is written in a sentence."""
        return self.name.replace("_", " ")

    @property
    def axis(self) -> str:
        """The label of an axis: `accuracy (%)`."""
        return self.label or (f"{self.words} ({self.unit})" if self.unit else self.words)

    @property
    def sign(self) -> float:
        """1 if larger is better, else -1: the larger a value times its sign, the better."""
        return 1.0 if self.direction == "max" else -1.0

    def decimals(self, value: float) -> str:
        """``value`` with the metric's decimals."""
        return f"{value:.{self.digits}f}"

    def signed(self, difference: float) -> str:
        """The same with its sign: `+0.31`."""
        return f"{difference:+.{self.digits}f}"

    def check_rewards(self) -> None:
        """Raises ConfigError if no reward follows from the metric: its range lacks a bound, and
        nothing says how to turn a value into a reward."""
        if self.to_reward is None and not all(map(math.isfinite, self.range)):
            least, largest = self.range
            raise ConfigError(
                f"no reward follows from {self.name}, whose declared range is {least:g} to"
                f" {largest:g}\n"
                "  declare both bounds in its Metric, e.g. range=(0.0, 1.0), or how to turn a value"
                " into a reward,\n"
                "  e.g. range=(0.0, math.inf), to_reward=half_at(0.5): 1 at 0, and 1/2 at 0.5"
            )

    def reward(self, value: float) -> float:
        """The reward of a search's child with this value, from 0 (worst) to 1 (best): its place in
        the range, or what ``to_reward`` makes of it. An accuracy in percent becomes a fraction
        (sec. 3.3).

        Raises ConfigError for a value outside the range and for a metric without rewards.
        """
        self.check_rewards()
        least, largest = self.range
        size = largest - least if math.isfinite(largest - least) else 1.0
        if not least - ROUNDING * size <= value <= largest + ROUNDING * size:
            raise ConfigError(
                f"{self.name} is {value:g}, outside its declared range, {least:g} to {largest:g}:"
                " correct the range in its Metric, or what is measured"
            )
        value = min(max(value, least), largest)
        if self.to_reward is None:
            share = (value - least) / size
            return share if self.direction == "max" else 1 - share
        reward = self.to_reward(value)
        if not 0 <= reward <= 1:
            raise ConfigError(
                f"to_reward of {self.name} makes {reward:g} of {value:g}; a reward is between 0 and"
                " 1"
            )
        return reward


def half_at(half: float, best: float = 0.0) -> Callable[[float], float]:
    """A `Metric.to_reward`: 1 for the value ``best``, 1/2 at a distance of ``half`` from it, and
    towards 0 beyond."""
    if not (math.isfinite(half) and half > 0):
        raise ConfigError(f"half_at takes a positive finite distance, got {half:g}")
    return lambda value: 1 / (1 + abs(value - best) / half)


def perplexity(loss: float) -> float:
    """e to the power of a mean loss in nats; infinity if that is too large for a float."""
    return math.inf if loss >= LARGEST_EXPONENT else math.exp(loss)


_POINTS = Tolerance(0.5, why="points, a quarter of the range of Table 2")
_BLEU = Tolerance(0.5, why="points, the gain that Table 4 is about")
_PERPLEXITY = Tolerance(0.02, relative=True, why="of the paper's, half of Table 5's gaps")
_LOSS = Tolerance(0.02, relative=True, why="of the paper's, a third of Table 4's gap")

_PERCENT = (0.0, 100.0)

ACCURACY = Metric("accuracy", "max", "points", _POINTS, "accuracy (%)", range=_PERCENT)
TOP5_ACCURACY = Metric(
    "top5_accuracy", "max", "points", _POINTS, "top5 accuracy (%)", range=_PERCENT
)
BLEU = Metric("bleu", "max", "BLEU", _BLEU, "bleu", range=_PERCENT)
BLEU_TOKENISED = Metric("bleu_tokenised", "max", "BLEU", _BLEU, "bleu tokenised", range=_PERCENT)
PERPLEXITY = Metric(
    "perplexity",
    "min",
    "perplexity",
    _PERPLEXITY,
    "perplexity",
    range=(1.0, math.inf),
    to_reward=lambda value: 1 / value,
    of_loss=perplexity,
)
LOSS = Metric(
    "loss",
    "min",
    "loss",
    _LOSS,
    "loss",
    range=(0.0, math.inf),
    to_reward=half_at(1.0),
    of_loss=lambda loss: loss,
)
