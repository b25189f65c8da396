"""What runs inside a SLURM job: a pack of jobs, one after the other.

Submitit calls a `Pack` in every process of the job. Told by SIGUSR2 or SIGTERM that its time is
over, the pack lets the job in hand save its state, and only then does what Submitit would have done
at once: it asks SLURM to queue it again. What it has finished it has reported, so that
whoever starts it again - Submitit's requeue, SLURM's own after a preemption or the loss of a node,
an operator - it goes on where it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NoReturn

import submitit
import torch

from nos_repro.experiments.claim import STALE_SECONDS
from nos_repro.experiments.files import StoreError, write_atomically
from nos_repro.launch.base import J, Report
from nos_repro.launch.slurm.cluster import own_state
from nos_repro.launch.slurm.ledger import Batch, Message
from nos_repro.launch.work import keep_freed_memory, run_job

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
HELD_SECONDS = STALE_SECONDS + 10
"""A job that was killed on another host seems to be held until its claim has gone stale."""

SECOND_SIGNAL_SECONDS = 5.0
AGAIN_SECONDS = 10.0
LAST_SECONDS = 900.0
"""What leaves waits so long to be ended by SLURM, and asks anew so often: slurmctld may be away."""

MAX_TIMEOUTS = 3
"""Times in a row that a job may reach the time limit without having saved anything new."""


@dataclass
class Pack(Generic[J]):
    """The jobs of one SLURM job, and where they report."""

    folder: Path
    number: int
    jobs: Sequence[J]
    threads: int
    minutes: int
    signal_seconds: int

    def __call__(self) -> str:
        """Runs what has not reported yet. Submitit calls it, in every process of the job."""
        logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
        return _Run(self).run()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What Submitit is to queue again: the same, for what is done has been reported."""
        return submitit.helpers.DelayedSubmission(self)


class _Run(Generic[J]):
    """One attempt at a pack."""

    def __init__(self, pack: Pack[J]) -> None:
        self.pack = pack
        self.batch = Batch(pack.folder, [])
        self.rank = int(os.environ.get("SLURM_PROCID", "0"))
        self.world = int(os.environ.get("SLURM_NTASKS", "1"))
        self.started = time.monotonic()
        self.stop = threading.Event()
        self.signals: list[int] = []
        self.submitits: dict[int, Any] = {}

    def run(self) -> str:
        if self.batch.is_closed(self.pack.number):
            return "given up elsewhere"
        with self._signals():
            self._prepare()
            for place, job in enumerate(self.pack.jobs):
                if not self.batch.has_said(self.pack.number, place):
                    self._do(place, job)
        return "done"

    def _prepare(self) -> None:
        torch.set_num_threads(self.pack.threads)
        keep_freed_memory()
        if torch.cuda.is_available():
            local = int(os.environ.get("SLURM_LOCALID", "0"))
            torch.cuda.set_device(local % torch.cuda.device_count())
        if self.rank == 0:
            restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
            self.batch.begin(self.pack.number, {"host": socket.gethostname(), "restarts": restarts})

    def _do(self, place: int, job: J) -> None:
        if self.stop.is_set():
            self._leave(place, job)
        log.info("job %d of %d: %s", place + 1, len(self.pack.jobs), job.label)
        if self._timeouts(place, job) >= MAX_TIMEOUTS:
            words = f"reached its time limit {MAX_TIMEOUTS} times in a row with nothing new saved"
            self._say(place, Message("timed_out", f"{words}: raise launcher.hours"))
            return
        with self._limit(place, job):
            report = run_job(job, self.stop.is_set)
            report = self._wait_for_claim(job, report)
        if report.outcome == "stopped":
            self._leave(place, job)
        self._say(place, Message(report.outcome, report.message))
        log.info("%s %s", report.outcome, report.message)
        if report.outcome == "lost" and self.world > 1:
            sys.exit(1)  # the others wait for this process until it ends; the pack is begun anew

    def _wait_for_claim(self, job: J, report: Report[J]) -> Report[J]:
        """Nobody else was given this job: a claim on it is that of a process that was killed."""
        deadline = time.monotonic() + HELD_SECONDS
        while report.outcome == "held" and time.monotonic() < deadline and not self.stop.wait(5):
            report = run_job(job, self.stop.is_set)
        return report

    @contextlib.contextmanager
    def _limit(self, place: int, job: J) -> Iterator[None]:
        """Ends this process where the job hangs beyond its limit; whoever watches takes up what
        is left of the pack."""
        if job.limit_seconds is None:
            yield
            return

        def overrun() -> None:
            self._say(place, Message("overran", f"killed after {job.limit_seconds:g} s"))
            os._exit(1)

        timer = threading.Timer(job.limit_seconds, overrun)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _say(self, place: int, message: Message) -> None:
        if self.rank == 0:
            self.batch.say(self.pack.number, place, message)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Answers SLURM's signals; processes that are forked meanwhile ignore them."""
        mine = os.getpid()

        def answer(number: int, frame: FrameType | None) -> None:
            if os.getpid() == mine:
                self.signals.append(number)
                self.stop.set()

        for number in SIGNALS:
            self.submitits[number] = signal.signal(number, answer)
        try:
            yield
        finally:
            for number in SIGNALS:
                signal.signal(number, self.submitits[number])

    def _leave(self, place: int, job: J) -> NoReturn:
        """The state is saved: hands the word to Submitit, which has the job queued again.

        SIGTERM alone may also be the beginning of a cancellation or of a preemption that SLURM
        sees to by itself. Then there is nothing to ask for, and the process waits for its end.
        """
        log.info(
            "stopped by %s; what was done is saved", [signal.Signals(n).name for n in self.signals]
        )
        self._note_timeout(place, job)
        deadline = time.monotonic() + SECOND_SIGNAL_SECONDS
        while signal.SIGUSR2 not in self.signals and time.monotonic() < deadline:
            time.sleep(0.1)
        deadline = time.monotonic() + LAST_SECONDS
        while time.monotonic() < deadline:
            if self.rank == 0 and own_state(os.environ["SLURM_JOB_ID"]) == "RUNNING":
                self._requeue()
            time.sleep(AGAIN_SECONDS)
        sys.exit(1)

    def _requeue(self) -> None:
        """Submitit's own answer to the signal: ends this process where SLURM queues it again."""
        scratch = submitit.JobEnvironment().paths.submitted_pickle.with_suffix(".pkl.save_tmp")
        scratch.unlink(missing_ok=True)  # of a process that was killed while it wrote
        try:
            self.submitits[signal.SIGUSR2](signal.SIGUSR2, None)
        except (subprocess.SubprocessError, submitit.core.utils.UncompletedJobError) as error:
            log.info("SLURM did not queue it again; it may do so by itself: %s", error)

    def _note_timeout(self, place: int, job: J) -> None:
        """Remembers that the time was over, and what was saved until then."""
        left = self.pack.minutes * 60 - (time.monotonic() - self.started)
        if self.rank or left > self.pack.signal_seconds + 90:  # preempted, not at its limit
            return
        line = f"{place} {_saved(job)}\n"
        path = self._timeouts_path
        before = path.read_text() if path.exists() else ""
        with contextlib.suppress(StoreError):
            write_atomically(path, (before + line).encode())

    def _timeouts(self, place: int, job: J) -> int:
        """How often in a row this job has come to the limit with nothing saved since."""
        path = self._timeouts_path
        lines = path.read_text().splitlines() if path.exists() else []
        now, count = f"{place} {_saved(job)}", 0
        for line in reversed(lines):
            if line != now:
                break
            count += 1
        return count

    @property
    def _timeouts_path(self) -> Path:
        return self.pack.folder / f"timeouts-{self.pack.number}.txt"


def _saved(job: Any) -> int:
    """What tells one checkpoint of the job from the next; 0 for none."""
    with contextlib.suppress(OSError):
        return (job.folder / "checkpoint.pt").stat().st_mtime_ns  # type: ignore[no-any-return]
    return 0
