"""A trial as a run of W&B.

The run's id is made of the study, the scale and the trial, so that all attempts at a trial, on any
host and however often it is queued again, are one run. `wandb.json` next to the checkpoint says how
much of the curve has been logged. The x axis of charts is `epoch` or `global_step`, which every
point has.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.tracker import CurveLines
from nos_repro.experiments.trial import Trial
from nos_repro.tracking.connection import Mode, close_run, open_run, read_told, write_told
from nos_repro.tracking.metrics import (
    EPOCH,
    GLOBAL_STEP,
    STATUS,
    StudyRole,
    group_of,
    role_of,
    trial_config,
    trial_point,
    trial_summary,
)

log = logging.getLogger(__name__)

TAG_CHARACTERS = 64
"""W&B refuses longer tags."""


@dataclass(frozen=True)
class WandbRuns:
    """The trials of one study at one scale, as a group of runs."""

    study: Study
    folder: Path
    """Where W&B writes: it creates a folder `wandb` there."""
    mode: Mode = "offline"

    def run_id(self, trial: Trial) -> str:
        return f"{self.study.study}-{self.study.scale}-{trial.id}"

    @contextmanager
    def follow(self, trial: Trial, folder: Path) -> Iterator[FollowedTrial]:
        """Opens or resumes the trial's run; closes it when the attempt ends."""
        memory = folder / "wandb.json"
        followed = FollowedTrial(self.study, self._open(trial), read_told(memory))
        try:
            yield followed
        finally:
            if followed.run is not None and close_run(followed.run, failed=followed.failed):
                write_told(memory, self.run_id(trial), followed.told)

    def _open(self, trial: Trial) -> Any:
        return open_run(self.mode, self.folder, lambda: self._named(trial), _prepare)

    def _named(self, trial: Trial) -> dict[str, Any]:
        place = role_of(self.study, trial)
        return {
            "id": self.run_id(trial),
            "name": trial.label(),
            "group": group_of(self.study.study, self.study.scale),
            "job_type": place.phase or None,
            "tags": tags(trial, place),
            "config": trial_config(self.study, trial, place),
        }


def _prepare(run: Any) -> None:
    run.define_metric(EPOCH)
    run.define_metric(GLOBAL_STEP)
    run.define_metric("*", step_metric=GLOBAL_STEP)
    run.summary[STATUS] = "training"


def tags(trial: Trial, place: StudyRole) -> list[str]:
    """Rows, optimizer and schedule, each once, cut to the length that W&B allows."""
    words = (*place.rows, trial.optimizer, trial.schedule)
    return list(dict.fromkeys(word[:TAG_CHARACTERS] for word in words))


@dataclass
class FollowedTrial:
    """One attempt at a trial, and its ``run``; None if W&B opened none."""

    study: Study
    run: Any
    told: int
    failed: bool = False

    def tell(self, curve: CurveLines) -> None:
        if self.run is None:
            return
        try:
            for point in curve[self.told :]:
                self.run.log(trial_point(point))
        except Exception:  # nothing that W&B does may fail a trial
            log.warning("a point was not logged to W&B", exc_info=True)
            return
        self.told = max(self.told, len(curve))

    def end(self, record: Record) -> None:
        self.failed = record.status == "failed"
        if self.run is None:
            return
        try:
            self.run.summary.update(trial_summary(self.study, record))
        except Exception:
            log.warning("the trial's end was not logged to W&B", exc_info=True)
