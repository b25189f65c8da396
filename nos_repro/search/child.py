"""The child that scores an update rule: its settings, its verdict, and its reward (sec. 3.3, 4.2).

*Reading of the paper*: the best rate is the best on the held-out images, the smaller of two equals.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from nos_repro.errors import ConfigError
from nos_repro.experiments.trial import Training, Trial
from nos_repro.tasks.metrics import Metric
from nos_repro.tasks.registry import find_metric

ChildStatus = Literal["healthy", "diverged", "overran", "failed", "refused", "reused"]

PAPER_RATES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]


@dataclass(frozen=True)
class Child:
    """What is trained to score a rule, and for how long.

    ``task`` is like a study's section of that name. ``sweep`` overrides some of its settings during
    the sweep of the rates. ``seconds`` limits the time of a child, since a very slow one would
    block its worker.
    """

    task: dict[str, Any]
    sweep: dict[str, Any] = field(default_factory=dict)
    rates: list[float] = field(default_factory=lambda: list(PAPER_RATES))
    sweep_epochs: int = 1
    epochs: int = 5
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        for key in ("sweep_epochs", "epochs"):
            if getattr(self, key) < 1:
                raise ConfigError(f"child.{key} must be at least 1, got {getattr(self, key)}")
        if not self.seconds > 0:
            raise ConfigError(f"child.seconds must be positive, got {self.seconds}")
        if not self.rates or len(set(self.rates)) < len(self.rates):
            raise ConfigError(f"child.rates must be different numbers, got {self.rates}")
        for rate in self.rates:
            if not (math.isfinite(rate) and rate > 0):
                raise ConfigError(f"child.rates must be positive finite numbers, got {rate}")

    def trial(self, optimizer: str, lr: float, seed: int, *, sweep: bool) -> Trial:
        """The training of the child with ``optimizer`` at one rate, as a trial."""
        settings = {**self.task, **(self.sweep if sweep else {})}
        name = settings.pop("name")
        return Trial(
            task=name,
            task_settings=settings,
            optimizer=optimizer,
            lr=float(lr),
            training=Training(epochs=self.sweep_epochs if sweep else self.epochs),
            seed=seed,
        )


@dataclass(frozen=True)
class Evaluation:
    """What is known about a rule's reward. A child ends ``healthy``, or with a reward of 0 and a
    reason: it ``diverged``, ``overran`` its time or ``failed`` with an exception. Without a child,
    a rule is ``refused``, or the reward of an equal rule is ``reused``.

    ``sweep`` has the validation metric of every rate, None where it diverged; ``metrics`` has those
    of the final training. ``examples`` is the number of examples trained on in all.
    """

    status: ChildStatus
    reward: float
    lr: float | None = None
    sweep: list[tuple[float, float | None]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    examples: int = 0
    seconds: float = 0.0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Evaluation:
        """Raises TypeError for values that are not an evaluation."""
        if not isinstance(values, dict):
            raise TypeError(f"expected an object, got {values!r}")
        sweep = [(float(rate), metric) for rate, metric in values.get("sweep", [])]
        return cls(**{**values, "sweep": sweep})


def best_rate(sweep: list[tuple[float, float | None]], metric: Metric) -> float | None:
    """The rate with the best value of the metric; None if no rate has one."""
    scored = [(metric.sign * value, -rate) for rate, value in sweep if value is not None]
    return -max(scored)[1] if scored else None


def reward_of(task: str, measured: dict[str, float]) -> float | None:
    """The reward for the validation metric of ``task`` (`Metric.reward`); None if any ``measured``
    value is not finite. Raises ConfigError for a value that the metric cannot have."""
    if not all(map(math.isfinite, measured.values())):
        return None
    metric = find_metric(task)
    try:
        return metric.reward(measured[f"val_{metric.name}"])
    except ConfigError as error:
        raise ConfigError(f"task {task}: {error}") from None
