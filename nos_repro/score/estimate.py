"""What scoring a candidate is about to cost, from a few steps of each task on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from nos_repro.launch.progress import duration
from nos_repro.score.cascade import Scorer
from nos_repro.score.training import Trainer

TIMED = 5
PROBE_SECONDS = 2.0
EXCHANGE_SECONDS = 4e-4
"""What an update's way to the candidate and back takes, at least."""


def estimate(scorer: Scorer, stages: Sequence[int]) -> str:
    """A line for each task, with what is trained and for how long, and the sum."""
    settings = scorer.settings
    lines = [f"{settings.score} at scale {settings.scale}: {settings.trainings} trainings per task"]
    whole, once = PROBE_SECONDS, 0.0
    for stage in stages:
        for name in settings.of_stage(stage):
            trainer = scorer.trainers[name]
            seconds = settings.trainings * training_seconds(trainer)
            missing = scorer.baselines.missing(trainer)
            whole += seconds
            once += len(missing) * seconds
            data = f" on {trainer.section['data']}" if "data" in trainer.section else ""
            stand_in = ", a stand-in" if trainer.stands_in else ""
            tune = f"; {' and '.join(missing)} to tune first" if missing else ""
            lines.append(
                f"  stage {stage}, {name}: {trainer.section['name']}{data}{stand_in},"
                f" {trainer.steps:,} updates each, about {duration(seconds)}{tune}"
            )
    lines.append(
        f"  in all about {duration(whole)} for a candidate that gets through; {duration(once)} more"
        " once, for the baselines"
    )
    return "\n".join(lines)


def training_seconds(trainer: Trainer) -> float:
    """A training of a task, without the candidate's own computations."""
    data = trainer.data(0)
    task = trainer.cls(trainer.settings)
    batches = data.train_batches(0)
    seconds = []
    for k, batch in zip(range(TIMED), batches, strict=False):
        started = time.perf_counter()
        task.training_step(batch, k).backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    task.eval()
    with torch.no_grad():
        for place, batch in enumerate(data.val_batches()):
            if place == trainer.declared.validation_batches:
                break
            task.evaluation_sums(batch)
    evaluation = time.perf_counter() - started
    points = trainer.steps / trainer.declared.evaluate_every + 1
    return (
        trainer.steps * (sorted(seconds)[len(seconds) // 2] + EXCHANGE_SECONDS)
        + points * evaluation
    )
