"""A candidate on a task: its rate tuned, then trained with fresh seeds, and what that is worth.

Every optimizer gets the same rates, seeds and number of trainings, the baselines too.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nos_repro.score.candidate import Submission
from nos_repro.score.process import Nursery
from nos_repro.score.settings import ScoreSettings
from nos_repro.score.training import Point, Trained, Trainer
from nos_repro.tasks.registry import find_metric

SWEEP_SEED = 0
"""Added to the settings' seed; the seeds of the trainings that count come after it."""
LEAST = 0.01
"""The smallest speed-up; its logarithm is averaged."""


@dataclass(frozen=True)
class Measured:
    """``sweep``: the last validation loss of each rate, None where it diverged. ``repeats``: the
    trainings with fresh seeds at the best rate. Without a rate that does not diverge there are
    none."""

    lr: float | None
    sweep: list[tuple[float, float | None]]
    repeats: list[Trained]

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the smallest or the largest one tried."""
        rates = [rate for rate, _ in self.sweep]
        return self.lr is not None and self.lr in (min(rates), max(rates))

    @property
    def diverged(self) -> bool:
        return not self.repeats or any(each.diverged for each in self.repeats)

    def mean(self, part: str, metric: str) -> float | None:
        """The mean of a metric over the repeats; None if any diverged."""
        values = [getattr(each, part).get(metric) for each in self.repeats]
        if not values or None in values or not all(map(math.isfinite, values)):
            return None
        return statistics.fmean(values)

    @property
    def step_seconds(self) -> float:
        return statistics.median(each.step_seconds for each in self.repeats) if self.repeats else 0

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        for each in values["repeats"]:
            each["value"] = each["value"] if math.isfinite(each["value"]) else None
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measured:
        repeats = [
            Trained(**{**each, "curve": [(int(s), float(v)) for s, v in each["curve"]],
                       "value": math.inf if each["value"] is None else each["value"]})
            for each in values["repeats"]
        ]  # fmt: skip
        return cls(values["lr"], [(rate, value) for rate, value in values["sweep"]], repeats)


def measure(
    candidate: Submission, trainer: Trainer, nursery: Nursery, settings: ScoreSettings, key: str
) -> Measured:
    """Tunes and trains. Raises Fault and OutOfTime."""
    found: dict[float, float] = {}

    def try_rate(lr: float) -> None:
        seed = settings.seed + SWEEP_SEED
        trained = trainer.train(candidate, nursery, lr, seed, key, test=False)
        found[lr] = trained.value

    for lr in settings.rates:
        try_rate(lr)
    best = _best(found)
    if best is not None and settings.refine > 1:
        for lr in (best / settings.refine, best * settings.refine):
            try_rate(lr)
        best = _best(found)
    sweep = [(lr, v if math.isfinite(v) else None) for lr, v in sorted(found.items())]
    if best is None:
        return Measured(None, sweep, [])
    seeds = range(settings.seed + SWEEP_SEED + 1, settings.seed + SWEEP_SEED + 1 + settings.seeds)
    repeats = [
        trainer.train(candidate, nursery, best, seed, key, test=True) for seed in seeds
    ]  # fmt: skip
    return Measured(best, sweep, repeats)


def _best(found: dict[float, float]) -> float | None:
    """The rate with the least loss, the smaller of two equals."""
    lr = min(found, key=lambda rate: (found[rate], rate))
    return lr if math.isfinite(found[lr]) else None


@dataclass(frozen=True)
class TaskScore:
    """What a candidate's trainings on a task are worth, beside tuned AdamW and SGD.

    ``speedup``: how many times fewer updates than AdamW it takes to AdamW's last validation loss,
    seed by seed. If it does not get there, the share of the way that it makes. ``normalised`` is 0
    for a model that has learned nothing and 1 for AdamW's, by the task's own metric on validation
    data.
    """

    task: str
    stage: int
    model: str
    data: str
    stands_in: bool
    metric: str
    direction: str
    validation: float | None
    test: float | None
    adamw: float | None
    adamw_test: float | None
    sgd: float | None
    sgd_test: float | None
    normalised: float | None
    normalised_sgd: float | None
    speedup: float
    speedup_sgd: float
    target: float
    steps: int
    steps_to_target: float | None
    lr: float | None
    lr_at_edge: bool
    diverged: bool
    sweep: list[tuple[float, float | None]]
    curves: list[list[Point]]
    step_cost: float | None
    """Seconds of an update, as a multiple of AdamW's."""


def score_task(trainer: Trainer, found: Measured, adamw: Measured, sgd: Measured) -> TaskScore:
    """Raises ValueError if AdamW itself diverged, so that there is no target."""
    if adamw.diverged:
        raise ValueError(f"AdamW diverges on {trainer.name} at every rate")
    name = trainer.section["name"]
    metric = find_metric(name)
    chance = trainer.cls.chance(trainer.settings)

    def value(of: Measured, part: str = "validation") -> float | None:
        return of.mean(part, metric.name)

    def normalised(of: Measured) -> float | None:
        ours, theirs = value(of), value(adamw)
        if ours is None or theirs is None:
            return None
        ours, theirs, worst = (_scaled(each, metric.name) for each in (ours, theirs, chance))
        return (ours - worst) / (theirs - worst) if theirs != worst else None

    cost = found.step_seconds / adamw.step_seconds if adamw.step_seconds else None
    return TaskScore(
        task=trainer.name,
        stage=trainer.declared.stage,
        model=name,
        data=str(trainer.section.get("data", "")),
        stands_in=trainer.stands_in,
        metric=metric.name,
        direction=metric.direction,
        validation=value(found),
        test=value(found, "test"),
        adamw=value(adamw),
        adamw_test=value(adamw, "test"),
        sgd=value(sgd),
        sgd_test=value(sgd, "test"),
        normalised=normalised(found),
        normalised_sgd=normalised(sgd),
        speedup=speedup(found, adamw, trainer.steps),
        speedup_sgd=speedup(sgd, adamw, trainer.steps),
        target=statistics.fmean(each.value for each in adamw.repeats),
        steps=trainer.steps,
        steps_to_target=_mean_steps(found, adamw),
        lr=found.lr,
        lr_at_edge=found.at_edge,
        diverged=found.diverged,
        sweep=found.sweep,
        curves=[each.curve for each in found.repeats],
        step_cost=cost if found.repeats else None,
    )


def _scaled(value: float, metric: str) -> float:
    """A perplexity as its logarithm, in which progress is even."""
    return math.log(max(value, 1e-9)) if metric == "perplexity" else value


def speedup(found: Measured, adamw: Measured, steps: int) -> float:
    """The geometric mean over the repeats, each compared with AdamW's of the same seed: what a seed
    does to all optimizers alike is no merit.

    A training that ends short of AdamW's last loss counts for the share of the way from its first
    loss that its best one makes, so that the measure is continuous there.
    """
    if not found.repeats:
        return LEAST
    logs = []
    for each, other in zip(found.repeats, adamw.repeats, strict=True):
        target = other.value
        reference = steps_to(other.curve, target) or steps
        reached = steps_to(each.curve, target)
        if reached is None:
            first = each.curve[0][1]
            best = min(value for _, value in each.curve)
            share = (first - best) / (first - target) if first > target else 0.0
            worth = max(0.0, share) * reference / steps
        else:
            worth = reference / max(reached, 1.0)
        logs.append(math.log(max(worth, LEAST)))
    return math.exp(statistics.fmean(logs))


def steps_to(curve: Sequence[Point], target: float) -> float | None:
    """The updates after which a curve first is at the target, between two evaluations in
    proportion; None if it never is."""
    for (before, above), (after, value) in itertools.pairwise(curve):
        if value <= target:
            share = (above - target) / (above - value) if above > target else 0.0
            return before + share * (after - before)
    return None


def _mean_steps(found: Measured, adamw: Measured) -> float | None:
    """Over the repeats that reach AdamW's last loss with the same seed."""
    pairs = zip(found.repeats, adamw.repeats, strict=False)
    reached = [steps_to(each.curve, other.value) for each, other in pairs]
    known = [each for each in reached if each is not None]
    return statistics.fmean(known) if known else None
