"""How long a study would take on this machine, from a few timed steps per distinct model."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from dataclasses import dataclass
from typing import Literal

from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.grid import repeat_trials, sweep_trials
from nos_repro.experiments.replicas import ALONE, Replicas
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Leg, ended, outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.training import Run
from nos_repro.experiments.trial import Training, Trial

WARM_STEPS = 2
TIMED_STEPS = 5
TIMED_BATCHES = 3


@dataclass(frozen=True)
class Cost:
    """Seconds that one model takes here: an update, a whole evaluation, and, if the model is
    compiled, what comes before its first update."""

    step: float
    evaluation: float
    steps_per_epoch: int
    compilation: float = 0.0

    def of(self, training: Training, start: int, end: int) -> float:
        """Seconds of training from epoch ``start`` to ``end`` on one worker."""
        every = training.evaluate_every
        evaluations = -(-end // every) - -(-start // every)
        steps = (end - start) * self.steps_per_epoch
        return self.compilation + steps * self.step + evaluations * self.evaluation


@dataclass(frozen=True)
class Planned:
    """A trial that the study asks for, and the part of it to train now (None: nothing). The
    repeats of a row that has no winner yet are counted at its first point: which one wins does
    not change the cost."""

    row: str
    stage: str
    trial: Trial
    leg: Leg | None


def plan(study: Study, store: Store) -> list[Planned]:
    """Every trial of the study, in the order of its rows. If the study halves them, only the
    training up to the next rung is planned; `halving.stages` says what comes after. Of rates that
    grow, those are planned that the records so far ask for."""
    if study.halving is not None:
        rows = outcomes(study, store)
        return [Planned(row.name, "sweep", s.trial, s.leg) for row in rows for s in row.sweep]

    def planned_of(name: str, stage: str, trial: Trial) -> Planned:
        whole = Leg(trial, 0, trial.training.epochs)
        return Planned(name, stage, trial, None if ended(store, trial) else whole)

    planned = []
    for outcome in outcomes(study, store):
        name, row = outcome.name, outcome.row
        grid = [scored.point for scored in outcome.sweep]
        sweep = sweep_trials(study, row, grid)
        planned += [planned_of(name, "sweep", trial) for trial in sweep]
        repeats = [repeat_trials(study, row, point) for point in grid]
        recorded = [sum(ended(store, t) is not None for t in trials) for trials in repeats]
        chosen = repeats[recorded.index(max(recorded))]
        planned += [planned_of(name, "repeat", trial) for trial in chosen]
    return planned


def model_key(trial: Trial) -> str:
    """Trials with the same key cost the same per step, apart from the optimizer."""
    return json.dumps([trial.task, trial.task_settings], sort_keys=True)


def measure(trial: Trial, conditions: Conditions, replicas: Replicas = ALONE) -> Cost:
    """Times a few steps of the trial's model, in all its processes at once. Raises whatever
    building it raises."""
    run = build(trial, conditions, replicas)
    run.task.train()
    timed = []
    batches = run.data.train_share(0, 0, replicas.rank, replicas.world)
    for batch in itertools.islice(batches, WARM_STEPS + TIMED_STEPS):
        started = time.perf_counter()
        run.train_step(run.to_device(batch))
        run.bad_step()
        timed.append(time.perf_counter() - started)
    step = statistics.median(timed[WARM_STEPS:] or timed)
    evaluation = _evaluation_seconds(run, "val") + _evaluation_seconds(run, "test")
    compiled = run.device_settings.get("compile", False)
    compilation = timed[0] - step if compiled else 0.0
    return Cost(step, evaluation, run.data.steps_per_epoch, compilation)


def _evaluation_seconds(run: Run, part: Literal["val", "test"]) -> float:
    """The cost of all batches of a part, from the first few; the very first warms up.

    All processes evaluate together, so each does it twice, however few batches it has.
    """
    batches = run.data.evaluation_share(part, run.replicas.rank, run.replicas.world)
    seconds = []
    count = 0
    for size in (1, TIMED_BATCHES):
        some = list(itertools.islice(batches, size))
        started = time.perf_counter()
        run.evaluate(iter(some), part)
        if some:
            seconds.append((time.perf_counter() - started) / len(some))
        count += len(some)
    count += sum(1 for _ in batches)
    return seconds[-1] * count if seconds else 0.0
