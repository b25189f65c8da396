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
    difference. ``scale`` sets the reward of a search's child (`reward`). ``of_loss`` computes its
    value from the mean loss of the training part, for which only the loss is recorded; None if it
    does not follow from the loss.

    Raises ConfigError for impossible values.
    """

    name: str
    direction: Literal["max", "min"]
    unit: str
    tolerance: Tolerance
    label: str = ""
    digits: int = 2
    scale: float = 1.0
    of_loss: Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"a metric's name must be a plain word, got {self.name!r}")
        if self.direction not in ("max", "min"):
            raise ConfigError(unknown(f"direction of {self.name}", self.direction, ("max", "min")))
        if not (math.isfinite(self.tolerance.size) and self.tolerance.size >= 0):
            raise ConfigError(f"the tolerance of {self.name} must be a finite number, at least 0")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"the scale of {self.name} must be a positive finite number")

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

    def reward(self, value: float) -> float:
        """The reward of a search's child with this value, in [0, 1].

        If larger is better, it is value / scale, where ``scale`` is the value of a perfect child:
        100 for an accuracy in percent, which becomes a fraction (sec. 3.3). If smaller is better,
        which never happens in the papers' search, it is 1 / (1 + value / scale): 1 for a perfect
        child, 1/2 at the scale. Values below 0 count as 0.
        """
        share = max(value, 0.0) / self.scale
        return min(share, 1.0) if self.direction == "max" else 1 / (1 + share)


def perplexity(loss: float) -> float:
    """e to the power of a mean loss in nats; infinity if that is too large for a float."""
    return math.inf if loss >= LARGEST_EXPONENT else math.exp(loss)


_POINTS = Tolerance(0.5, why="points, a quarter of the range of Table 2")
_BLEU = Tolerance(0.5, why="points, the gain that Table 4 is about")
_PERPLEXITY = Tolerance(0.02, relative=True, why="of the paper's, half of Table 5's gaps")
_LOSS = Tolerance(0.02, relative=True, why="of the paper's, a third of Table 4's gap")

ACCURACY = Metric("accuracy", "max", "points", _POINTS, "accuracy (%)", scale=100.0)
TOP5_ACCURACY = Metric("top5_accuracy", "max", "points", _POINTS, "top5 accuracy (%)", scale=100.0)
BLEU = Metric("bleu", "max", "BLEU", _BLEU, "bleu", scale=100.0)
BLEU_TOKENISED = Metric("bleu_tokenised", "max", "BLEU", _BLEU, "bleu tokenised", scale=100.0)
PERPLEXITY = Metric(
    "perplexity", "min", "perplexity", _PERPLEXITY, "perplexity", of_loss=perplexity
)
LOSS = Metric("loss", "min", "loss", _LOSS, "loss", of_loss=lambda loss: loss)
