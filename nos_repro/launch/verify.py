"""`verify`: whether today's code still produces the numbers that older code produced.

A record is stale if the code that decides its numbers has changed. Most changes do not matter: a
renamed variable, a faster path. Training the trial again up to its first evaluation, and comparing
that line to the last bit, settles it at a small share of the cost. (This misses a change that
affects only later epochs; `--whole` trains everything.) Floating point differs between machines;
for records made on another machine there is `launch.glimpse`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nos_repro.errors import LaunchError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.files import StoreError, read_file, read_json, write_json
from nos_repro.experiments.record import Record
from nos_repro.experiments.replicas import ALONE, Replicas
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import is_stale, outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.training import Stopped, train
from nos_repro.experiments.trial import Trial
from nos_repro.launch.base import J, JobOutcome, Launcher
from nos_repro.launch.driver import drive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetrainingJob:
    """A trial to be trained again with today's ``code``. Its answer is a file in ``folder``."""

    trial: Trial
    code: str
    folder: Path
    conditions: Conditions
    limit_seconds: ClassVar[float | None] = None

    @property
    def label(self) -> str:
        return self.trial.label()

    @property
    def identity(self) -> str:
        """The same trial with other code is another job."""
        return f"{self.trial.id}-{self.code}"

    def reply(self, answer: Any) -> tuple[JobOutcome, str]:
        write_json(self._path, answer)
        return "recorded", ""

    def answer(self) -> Any:
        """What the job found; None until it has run. Raises StoreError."""
        try:
            return read_json(read_file(self._path) or b"null")
        except ValueError:
            return None

    def is_done(self) -> bool:
        return self.answer() is not None

    def take(self) -> Any:
        """The answer; its file is removed, and the folder after the last one."""
        answer = self.answer()
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are still to come
            self.folder.rmdir()
        return answer

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.identity}.json"


@dataclass(frozen=True)
class VerifyJob(RetrainingJob):
    """Trains the trial of a stale ``record`` to see whether that repeats it."""

    record: Record
    whole: bool = False

    @property
    def identity(self) -> str:
        return f"{super().identity}{'-whole' if self.whole else ''}"

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        """Trains the trial again. If today's code cannot train it at all, it does not agree."""
        try:
            with self.conditions.join() as replicas:
                agreed = agrees(
                    self.trial, self.record, self.conditions, self.whole, stop, replicas
                )
        except (Stopped, StoreError):
            raise
        except Exception:
            log.exception("trial %s cannot be trained again", self.trial.id)
            agreed = False
        return self.reply(agreed)


def verify(
    study: Study,
    store: Store,
    conditions: Conditions,
    launcher: Launcher[VerifyJob],
    *,
    whole: bool = False,
    note: Callable[[str], None] = log.warning,
) -> Iterator[tuple[Trial, bool]]:
    """Trains every stale record's trial again; yields each when it ends, and whether it agrees.

    A record that agrees is signed with today's code; one that does not is left as it is. If the
    process is killed, the next call does the rest. Closes the launcher. Raises LaunchError if a
    trial's worker vanishes again and again, or a cluster does not run it to its end.
    """
    folder = store.root / "verify"
    jobs = [
        VerifyJob(trial, trial_code(trial.to_json()), folder, conditions, record, whole)
        for trial, record in recorded(study, store)
        if is_stale(record)
    ]
    for job in finish(jobs, launcher, note):
        agreed = job.take() is True
        if agreed:
            store.replace(job.record.signed(job.code))
        yield job.trial, agreed


def recorded(study: Study, store: Store) -> Iterator[tuple[Trial, Record]]:
    """The study's trials that have a result, each once."""
    trials = {trial.id: trial for row in outcomes(study, store) for trial in row.trials}
    for trial in trials.values():
        record = store.record(trial)
        if record is not None and record.status != "failed":
            yield trial, record


def finish(jobs: Sequence[J], launcher: Launcher[J], note: Callable[[str], None]) -> Iterator[J]:
    """The jobs as they end, starting with those that a cluster has finished in the meantime.

    Closes the launcher. Raises LaunchError if a job does not run to its end.
    """
    left = [job for job in jobs if job.is_done()]
    rest = iter([job for job in jobs if job not in left])
    try:
        yield from left
        for report in drive(lambda: rest, launcher, note):
            if report.outcome != "recorded":
                raise LaunchError(f"{report.job.label}: {report.message or report.outcome}")
            yield report.job
    finally:
        launcher.close()


def agrees(
    trial: Trial,
    record: Record,
    conditions: Conditions,
    whole: bool,
    stop: Callable[[], bool] = lambda: False,
    replicas: Replicas = ALONE,
) -> bool:
    """Whether training ``trial`` again repeats the record: its first evaluation or, with ``whole``,
    everything (up to the rung that stopped it, if one did)."""
    run = build(trial, conditions, replicas)
    first = min(trial.training.evaluate_every, trial.training.epochs)
    end = int(record.epoch) if record.partial else None
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(Path(scratch), every_seconds=math.inf)
        ending = train(run, checkpoints, stop=stop, until=end if whole else first)
    if ending.status == "paused" and not whole:
        return run.history == record.metrics[:1]
    if ending.status != "paused" and (ending.status, ending.step) != (record.status, record.steps):
        return False
    measured = {line["epoch"]: line for line in run.history}
    return all(measured.get(line["epoch"]) == line for line in record.metrics)
