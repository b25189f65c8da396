"""What runs inside a SLURM job: a pack of jobs, one after the other.

Submitit calls a `Pack` in every process of the job. When SIGUSR2 or SIGTERM says that its time is
over, the pack lets its current job save its state, and only then does what Submitit would have done
at once: it asks SLURM to queue it again. It has already reported what it finished, so it continues
where it was, whatever restarts it: Submitit's requeue, SLURM's own after a preemption or a node
failure, or an operator.
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

from nos_repro.experiments.files import StoreError, read_file, write_atomically
from nos_repro.experiments.heartbeat import STALE_SECONDS
from nos_repro.experiments.replicas import from_leader
from nos_repro.launch.base import J, Report
from nos_repro.launch.slurm.cluster import own_state
from nos_repro.launch.slurm.ledger import JobArray, Message
from nos_repro.launch.work import keep_freed_memory, run_job

log = logging.getLogger(__name__)

SIGNALS = (submitit.JobEnvironment._usr_sig(), signal.SIGTERM)
"""The one that Submitit tells SLURM to send, and the one that preemption and people send."""

EARLY_SECONDS = 90.0
"""SLURM's warning may come a minute early, and a training step passes before it is noticed."""

SECOND_SIGNAL_SECONDS = 5.0
AGAIN_SECONDS = 5.0
HELD_LOOKS = int(STALE_SECONDS / AGAIN_SECONDS) + 1
"""A job that was killed on another host seems to be held until its claim goes stale."""
LAST_SECONDS = 900.0
"""How long a stopping process keeps asking SLURM to requeue it, since slurmctld may be down."""

MAX_TIMEOUTS = 3
"""How often in a row a job may reach the time limit without having saved anything new."""


@dataclass
class Pack(Generic[J]):
    """The jobs of one SLURM job, and where they report."""

    folder: Path
    number: int
    jobs: Sequence[J]
    threads: int
    minutes: int
    signal_seconds: int
    nodes: int = 1
    processes: int = 1

    def __call__(self) -> str:
        """Runs what has not reported yet. Submitit calls this in every process of the job."""
        logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
        return _Run(self).run()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What Submitit queues again: the same pack, since finished jobs have reported."""
        return submitit.helpers.DelayedSubmission(self)


class _Run(Generic[J]):
    """One attempt at a pack, in one of its processes. The leading process chooses the next job."""

    def __init__(self, pack: Pack[J]) -> None:
        self.pack = pack
        self.batch = JobArray(pack.folder, [])
        self.together = pack.nodes * pack.processes > 1
        self.rank = int(os.environ["SLURM_PROCID"]) if self.together else 0
        self.started = time.monotonic()
        self.stop = threading.Event()
        self.signals: list[int] = []
        self.submitits: dict[int, Any] = {}

    def run(self) -> str:
        with self._signals():
            self._prepare()
            while True:
                choice = from_leader(self.pack.nodes, self.pack.processes, self._next)
                if not choice.isdigit():
                    return choice
                self._do(int(choice), self.pack.jobs[int(choice)])

    def _prepare(self) -> None:
        torch.set_num_threads(self.pack.threads)
        keep_freed_memory()
        if torch.cuda.is_available():
            local = int(os.environ.get("SLURM_LOCALID", "0"))
            torch.cuda.set_device(local % torch.cuda.device_count())
        if self.rank == 0 and not self._moved():
            restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
            self.batch.begin(self.pack.number, {"host": socket.gethostname(), "restarts": restarts})
        if self.rank == 0 and "SLURM_JOB_ID" in os.environ:
            self._watch_the_clock()

    def _watch_the_clock(self) -> None:
        """Warns itself when SLURM should, since SLURM does not repeat a warning that came before
        this process could handle signals."""
        _, left = own_state(_task())
        if left is not None:
            timer = threading.Timer(max(0.0, left - self.pack.signal_seconds), self._warn)
            timer.daemon = True
            timer.start()

    def _warn(self) -> None:
        self.signals.append(SIGNALS[0])
        self.stop.set()

    def _next(self) -> str:
        """The place of the next job, or why there is none. Read from disk: jobs that have reported
        are not started again, nor is anything in a pack that was given up."""
        if self._moved():
            return "the results were moved"
        if self.batch.is_closed(self.pack.number):
            return "given up elsewhere"
        for place, job in enumerate(self.pack.jobs):
            if self.batch.has_said(self.pack.number, place):
                continue
            if self._timeouts(place, job) < MAX_TIMEOUTS:
                return str(place)
            words = f"reached its time limit {MAX_TIMEOUTS} times in a row with nothing new saved"
            self._say(place, Message("timed_out", f"{words}: raise launcher.hours"))
        return "done"

    def _do(self, place: int, job: J) -> None:
        if self.stop.is_set() and not self.together:
            self._leave(place, job)
        log.info("job %d of %d: %s", place + 1, len(self.pack.jobs), job.label)
        with self._limit(place, job):
            report = run_job(job, self.stop.is_set)
            report = self._wait_for_claim(job, report)
        if report.outcome == "stopped":
            self._leave(place, job)
        self._say(place, Message(report.outcome, report.message))
        log.info("%s %s", report.outcome, report.message)
        if report.outcome == "lost" and self.together:
            self._give_up("the processes of a trial parted")
            sys.exit(1)  # the others wait for this process until it ends

    def _wait_for_claim(self, job: J, report: Report[J]) -> Report[J]:
        """Waits until a claim on the job goes stale: it belongs to a process that was killed, since
        no other was given this job."""
        for _ in range(HELD_LOOKS):
            if report.outcome != "held" or (self.stop.is_set() and not self.together):
                break
            time.sleep(AGAIN_SECONDS)
            report = run_job(job, self.stop.is_set)
        return report

    @contextlib.contextmanager
    def _limit(self, place: int, job: J) -> Iterator[None]:
        """Ends this process if the job hangs beyond its limit; the watching process takes over the
        rest of the pack."""
        if job.limit_seconds is None:
            yield
            return

        def overrun() -> None:
            self._say(place, Message("overran", f"killed after {job.limit_seconds:g} s"))
            self._give_up("a job hung")
            os._exit(1)

        timer = threading.Timer(job.limit_seconds, overrun)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _moved(self) -> bool:
        """Whether the results were moved or removed: to write there would split them."""
        return not self.pack.folder.is_dir()

    def _say(self, place: int, message: Message) -> None:
        if self.rank == 0 and not self._moved():
            self.batch.say(self.pack.number, place, message)

    def _give_up(self, reason: str) -> None:
        """Ends the pack; the watching process, or the next one, queues the rest again."""
        if self.rank == 0 and not self._moved():
            self.batch.close(self.pack.number, reason)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handles SLURM's signals; processes forked in the meantime ignore them."""
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
        """Called once the state is saved: calls Submitit's handler, which has the job queued again.

        SIGTERM alone may also start a cancellation, or a preemption that SLURM handles by itself.
        Then nothing needs to be requested, and the process waits to be ended.
        """
        names = [signal.Signals(number).name for number in self.signals]
        log.info("stopped by %s; all work is saved", names)
        if self.rank == 0:
            self._note_timeout(place, job, own_state(_task())[1])
        deadline = time.monotonic() + SECOND_SIGNAL_SECONDS
        while SIGNALS[0] not in self.signals and time.monotonic() < deadline:
            time.sleep(0.1)
        deadline = time.monotonic() + LAST_SECONDS
        while time.monotonic() < deadline:
            if self.rank == 0 and own_state(_task())[0] == "RUNNING":
                self._requeue()
            time.sleep(AGAIN_SECONDS)
        sys.exit(1)

    def _requeue(self) -> None:
        """Submitit's own response to the signal; ends this process if SLURM queues it again."""
        scratch = submitit.JobEnvironment().paths.submitted_pickle.with_suffix(".pkl.save_tmp")
        scratch.unlink(missing_ok=True)  # left by a process that was killed while writing
        try:
            self.submitits[SIGNALS[0]](SIGNALS[0], None)
        except (subprocess.SubprocessError, submitit.core.utils.UncompletedJobError) as error:
            log.info("SLURM did not queue it again; it may do so by itself: %s", error)

    def _note_timeout(self, place: int, job: J, left: float | None) -> None:
        """Notes that the time limit was reached, and what had been saved by then. ``left``: the
        seconds that SLURM still gives; if unknown, this process's own clock is used."""
        if left is None:
            left = self.pack.minutes * 60 - (time.monotonic() - self.started)
        if left > self.pack.signal_seconds + EARLY_SECONDS:  # preempted, not at its limit
            return
        line = f"{place} {_saved(job)}\n"
        path = self._timeouts_path
        with contextlib.suppress(StoreError):
            before = read_file(path) or b""
            write_atomically(path, before + line.encode())

    def _timeouts(self, place: int, job: J) -> int:
        """How often in a row this job has reached the limit with nothing saved since."""
        path = self._timeouts_path
        lines = (read_file(path) or b"").decode(errors="replace").splitlines()
        now, count = f"{place} {_saved(job)}", 0
        for line in reversed(lines):
            if line != now:
                break
            count += 1
        return count

    @property
    def _timeouts_path(self) -> Path:
        return self.pack.folder / f"timeouts-{self.pack.number}.txt"


def _task() -> str:
    """The number of this job as squeue shows it; the last job of an array has the array's number as
    its SLURM_JOB_ID."""
    given = os.environ
    array = given.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{given['SLURM_ARRAY_TASK_ID']}" if array else given["SLURM_JOB_ID"]


def _saved(job: Any) -> int:
    """A number that tells one checkpoint of the job from the next; 0 for none."""
    with contextlib.suppress(OSError):
        return (job.folder / "checkpoint.pt").stat().st_mtime_ns  # type: ignore[no-any-return]
    return 0
