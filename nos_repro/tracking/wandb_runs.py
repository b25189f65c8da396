"""A trial as a run of W&B.

`wandb.json` next to the checkpoint holds the run's id, so that all attempts at a trial, on any host
and however often it is queued again, are one run, and how much of it has been logged. The curve has
a point per evaluation, and the loss of about `LOSS_POINTS` steps, evenly spaced. The x axis of
charts is `global_step`, which every point has, or `epoch`.

W&B's own settings opt out of what it gathers by itself: `WANDB__DISABLE_STATS=true` (system
metrics), `WANDB__DISABLE_META=true` (host and hardware), `WANDB_DISABLE_GIT=true`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.tracker import CurveLines
from nos_repro.experiments.trial import Trial
from nos_repro.tracking.artifacts import log_files
from nos_repro.tracking.connection import Mode, RunMemory, close_run, open_run
from nos_repro.tracking.metrics import (
    EPOCH,
    GLOBAL_STEP,
    LOSS,
    MADE_BY,
    STATUS,
    StudyRole,
    group_of,
    made_by,
    paper_values,
    role_of,
    trial_config,
    trial_point,
    trial_summary,
)

log = logging.getLogger(__name__)

TAG_CHARACTERS = 64
"""W&B refuses longer tags."""
CHECKPOINT_FILES = ("checkpoint.pt", "settings.json", "record.json")
LOSS_POINTS = 1000
"""At most about this many losses are logged per trial."""


@dataclass(frozen=True)
class WandbRuns:
    """The trials of one study at one scale, as a group of runs."""

    study: Study
    folder: Path
    """Where W&B writes: it creates a folder `wandb` there."""
    mode: Mode = "offline"
    checkpoints: bool = False
    """Whether a finished trial's last checkpoint is logged as an artifact."""

    @contextmanager
    def follow(self, trial: Trial, folder: Path) -> Iterator[FollowedTrial]:
        """Opens or resumes the trial's run; closes it when the attempt ends."""
        stem = f"{self.study.study}-{self.study.scale}-{trial.id}"
        memory = RunMemory.recall(folder / "wandb.json", stem)
        run = None if memory is None else self._open(trial, memory.id)
        if memory is None or run is None:
            yield FollowedTrial(self.study, None, RunMemory(folder / "wandb.json", stem))
            return
        memory = memory.of(run)
        memory.save()  # now, or another attempt would not know the id
        followed = FollowedTrial(self.study, run, memory, checkpoints=self.checkpoints)
        try:
            yield followed
        finally:
            if close_run(run, failed=followed.failed):
                memory.save()

    def _open(self, trial: Trial, run_id: str) -> Any:
        def named() -> dict[str, Any]:
            return self._named(trial, run_id)

        def prepare(run: Any) -> None:
            _prepare(run)
            run.summary.update(paper_values(self.study, role_of(self.study, trial)))

        return open_run(self.mode, self.folder, named, prepare)

    def _named(self, trial: Trial, run_id: str) -> dict[str, Any]:
        place = role_of(self.study, trial)
        return {
            "id": run_id,
            "name": trial.label(),
            "group": group_of(self.study.study, self.study.scale),
            "job_type": place.phase or None,
            "tags": tags(trial, place),
            "config": {**trial_config(self.study, trial, place), **made_by()},
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
    memory: RunMemory
    failed: bool = False
    checkpoints: bool = False

    def tell(self, curve: CurveLines) -> None:
        if self.run is None:
            return
        try:
            for point in curve[self.memory.told :]:
                self.run.log(trial_point(point))
        except Exception:  # nothing that W&B does may fail a trial
            log.warning("a point was not logged to W&B", exc_info=True)
            return
        self.memory.told = max(self.memory.told, len(curve))

    def losses(self, first: int, losses: Sequence[float], steps: int) -> None:
        if self.run is None:
            return
        every = math.ceil(steps / LOSS_POINTS)
        try:
            for step, loss in enumerate(losses, first):
                if step % every == 0 and step > self.memory.step:
                    self.run.log({GLOBAL_STEP: step, LOSS: loss})
                    self.memory.step = step
        except Exception:
            log.warning("a loss was not logged to W&B", exc_info=True)

    def end(self, record: Record) -> None:
        self.failed = record.status == "failed"
        if self.run is None:
            return
        try:
            self.run.summary.update(trial_summary(self.study, record))
            made = {key: record.provenance.get(key) for key in MADE_BY}
            self.run.config.update(made, allow_val_change=True)
            if self.checkpoints and record.status == "finished":
                folder = self.memory.path.parent
                files = [folder / name for name in CHECKPOINT_FILES]
                log_files(self.run, self.memory.id, "model", files)
        except Exception:
            log.warning("the trial's end was not logged to W&B", exc_info=True)
