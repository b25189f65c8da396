"""The launcher of jobs on a SLURM cluster.

All its state is on disk (`ledger`). If a front end is killed, the jobs keep running, and the next
front end that is told to submit the same work finds it queued and waits for it. Outcomes are read
from files; SLURM is asked only which jobs are still there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic

from nos_repro.errors import LaunchError
from nos_repro.experiments.files import StoreError
from nos_repro.launch.base import J, Report
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.slurm import cluster, recovery
from nos_repro.launch.slurm.ledger import JobArray, Ledger, Message, Queued
from nos_repro.launch.slurm.submission import RefusedError, submit
from nos_repro.launch.slurm.throttle import Throttle
from nos_repro.launch.slurm.waiting import notes

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
PRUNE_SECONDS = 60.0
REMIND_SECONDS = 300.0
BACK_OFF_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
PATIENCE_SECONDS = 900.0
"""How long to wait while SLURM accepts no jobs."""


class Slurm(Generic[J]):
    """Jobs as arrays of packs, in the ledger of ``folder``.

    ``per_pack`` jobs make a pack. ``depth`` limits how many packs are queued at a time (for a
    search, which proposes as it goes); None queues everything and leaves the order to SLURM.
    """

    word = "queued or running"

    def __init__(
        self,
        settings: LauncherSettings,
        folder: Path,
        name: str,
        *,
        per_pack: int = 1,
        depth: int | None = None,
        note: Callable[[str], None] = log.warning,
    ) -> None:
        self.settings = settings
        self.name = name
        self.per_pack = per_pack
        self.depth = depth
        self.note = note
        self.ledger = Ledger(folder)
        self._buffer: list[J] = []
        self._queued: dict[str, tuple[J, Queued]] = {}
        self._ended: list[J] = []
        self._suspects: set[tuple[str, int]] = set()
        self._places = Throttle(settings.array_parallelism)
        self._tried = self._surveyed = self._ever_begun = False
        self._poll_at = self._submit_at = self._prune_at = 0.0
        self._remind_at: dict[str, float] = {}
        self._refusals = 0
        self._refused_since = 0.0
        self._obstacle = ""
        self._at_limit = False
        self._most_packs = settings.array_size

    @property
    def free(self) -> int:
        if self.depth is None:
            return 10**6
        return max(0, (self.depth - self._packs) * self.per_pack - len(self._buffer))

    @property
    def _packs(self) -> int:
        """The number of packs from which reports are expected."""
        return len({(at.batch.name, at.pack) for _, at in self._queued.values()})

    @property
    def queued(self) -> dict[str, str]:
        """SLURM's numbers of the jobs that this launcher waits for, by identity."""
        return {identity: at.task for identity, (_, at) in self._queued.items()}

    @property
    def ended(self) -> int:
        """How many jobs had ended before they could be queued."""
        return len(self._ended)

    @property
    def full(self) -> bool:
        """Whether handed-over jobs have to wait for arrays that are under way."""
        return self.depth is None and self._places.room < 1

    def queue(self, seconds: float = PATIENCE_SECONDS) -> str:
        """Queues what was handed over, for a front end that does not stay.

        Returns why some of it is not queued; "" if all is. Another process that is submitting, and
        a SLURM that does not answer, are waited for up to ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while not self.flush():
            if self.full:
                return f"launcher.array_parallelism={self.settings.array_parallelism} are under way"
            if self._at_limit or time.monotonic() > deadline:
                return self._obstacle
            if self._refusals:
                self._remind(f"{self._obstacle}; still trying")
            time.sleep(TICK_SECONDS)
        return ""

    def submit(self, job: J) -> None:
        """Takes a job; the next `wait` or `flush` queues it with the others."""
        self._buffer.append(job)
        self._tried = False

    def wait(self, seconds: float) -> list[Report[J]]:
        """Queues what was handed over, and reads the reports of the rest.

        With ``seconds=0`` the caller will submit more, so no array is started yet. Raises
        LaunchError if SLURM refuses the jobs, accepts none for long, or no job reaches its first
        line; StoreError if the disk fails.
        """
        deadline = time.monotonic() + seconds
        while True:
            if seconds > 0 and not self.flush() and self._refusals:
                self._remind(f"{self._obstacle}; still trying")
            reports = list(self._collect())
            left = deadline - time.monotonic()
            if reports or left <= 0:
                return reports
            time.sleep(min(TICK_SECONDS, left))

    def close(self) -> list[Report[J]]:
        """Leaves what is queued to the cluster; the next run finds it there."""
        left = sum(at.pack not in at.batch.closed for _, at in self._queued.values())
        if left:
            self.note(
                f"{left} jobs continue without this process; run the same command to wait for them"
                " again, or `cancel` to end them"
            )
        self._buffer.clear()
        self._queued.clear()
        self.ledger.prune()
        return []

    def flush(self) -> bool:
        """Queues what was handed over. False if some of it has to wait: another process is
        submitting, SLURM does not answer, or the limit of jobs at a time is reached."""
        now = time.monotonic()
        if not self._buffer or now < self._submit_at or (self._tried and self.full):
            return not self._buffer
        with self.ledger.submitting() as ours:
            if not ours:
                self._submit_at = now + TICK_SECONDS
                self._obstacle = "another process is submitting"
                return False
            if now >= self._prune_at:
                self.ledger.prune()
                self._prune_at = now + PRUNE_SECONDS
            self.ledger.refresh()
            if not recovery.number(self.ledger) or not self._survey():
                return self._unanswered("squeue: SLURM does not answer")
            self._attach(self.ledger.queued())
            while self._buffer:
                if not self._submit_array():
                    return False
        return True

    def _survey(self) -> bool:
        """Before the first submission, closes what earlier front ends have left behind."""
        self._surveyed = self._surveyed or recovery.bury(self.ledger)
        return self._surveyed

    def _attach(self, known: dict[str, Queued]) -> None:
        """Waits for jobs that are on the cluster already instead of submitting them again. Those
        that have ended since they were handed over, queued by another process, are done."""
        for batch in {at.batch.name: at.batch for at in known.values()}.values():
            self._places.adopt(batch)
        fresh = []
        for job in self._buffer:
            if job.identity in known:
                self._queued[job.identity] = (job, known[job.identity])
            elif job.is_done():
                self._ended.append(job)
            else:
                fresh.append(job)
        self._buffer = fresh
        self._tried = True

    def _submit_array(self) -> bool:
        """Queues as much of what was handed over as an array may hold."""
        room = self._places.room if self.depth is None else self.depth - self._packs
        if room < 1:
            return False
        per_pack = self.per_pack
        if self.depth is not None:  # a few jobs are spread out, since the search waits for them
            per_pack = min(per_pack, -(-len(self._buffer) // room))
        jobs = self._buffer[: self._most_packs * per_pack]
        packs = [jobs[n : n + per_pack] for n in range(0, len(jobs), per_pack)]
        batch = self.ledger.new(self.name, [[job.identity for job in pack] for pack in packs])
        parallelism = min(room, len(packs))
        try:
            submit(batch, packs, self.settings, parallelism)
        except RefusedError as error:
            return self._refused(batch, str(error))
        self._refusals, self._at_limit = 0, False
        self._most_packs = min(2 * self._most_packs, self.settings.array_size)
        self._places.give(batch, parallelism)
        self._buffer = self._buffer[len(jobs) :]
        for number, pack in enumerate(packs):
            for place, job in enumerate(pack):
                self._queued[job.identity] = (job, Queued(batch, number, place))
        return True

    def _refused(self, batch: JobArray, error: str) -> bool:
        """Handles an error of sbatch. True: try again at once, with a smaller array.

        If SLURM did not answer in time, it may still have queued the batch: the next flush looks
        for it. If a limit of jobs is reached, it has queued nothing of it, but a part may fit.
        """
        if cluster.passing(error):
            return self._unanswered(f"sbatch: {error}")
        recovery.close(batch, batch.open, error)
        if limit := cluster.limit(error):
            if len(batch.packs) > 1:
                self._most_packs = len(batch.packs) // 2
                return True
            if self._queued:
                self._at_limit = True
                return self._unanswered(f"SLURM takes no more jobs now ({limit})")
        raise LaunchError(f"sbatch refuses the jobs: {error}{cluster.hint(error)}")

    def _unanswered(self, what: str) -> bool:
        """Backs off; raises LaunchError if that has gone on for too long."""
        now = time.monotonic()
        if self._refusals == 0:
            self._refused_since = now
        if now - self._refused_since > PATIENCE_SECONDS and not self._queued:
            raise LaunchError(
                f"{what}\n  waited for {PATIENCE_SECONDS / 60:.0f} minutes; nothing is lost: run"
                " the same command again"
            )
        pause = BACK_OFF_SECONDS[min(self._refusals, len(BACK_OFF_SECONDS) - 1)]
        self._refusals += 1
        self._submit_at = now + pause
        self._obstacle = what
        return False

    def _remind(self, what: str, about: str = "") -> None:
        """Notes what is going on, once in a while for each thing that it is about."""
        now = time.monotonic()
        if now >= self._remind_at.get(about, 0.0):
            self.note(what)
            self._remind_at[about] = now + REMIND_SECONDS

    def _collect(self) -> Iterator[Report[J]]:
        """The reports that have come in; from time to time SLURM is asked what is still there."""
        while self._ended:
            yield Report(self._ended.pop(), "recorded")
        watched = self._watched()
        if watched and not self.ledger.folder.is_dir():
            raise StoreError(
                f"{self.ledger.folder} was moved or removed while jobs ran\n"
                "  run the same command again, with --results where it is now"
            )
        for batch in watched:
            batch.look()
            self._ever_begun = self._ever_begun or bool(batch.begun)
        asked = watched or (self._buffer and self._places.batches)
        if asked and time.monotonic() >= self._poll_at:
            self._poll(watched)
            self._poll_at = time.monotonic() + self.settings.poll_seconds
        for identity, (job, at) in list(self._queued.items()):
            if at.message is not None:
                del self._queued[identity]
                yield Report(job, at.message.outcome, at.message.message, at.message.detail)
            elif at.pack in at.batch.closed:  # never started, in a pack that has been closed
                del self._queued[identity]
                self.submit(job)

    def _watched(self) -> list[JobArray]:
        """The batches from which reports are expected, oldest first."""
        return list({at.batch.name: at.batch for _, at in self._queued.values()}.values())

    def _poll(self, watched: Sequence[JobArray]) -> None:
        """Closes the packs that SLURM no longer has, twice in a row.

        Once is not enough: between a node failure or preemption and SLURM's queueing it again, a
        job seems to have ended.
        """
        standings = cluster.standings([*watched, *self._places.batches])
        if standings is None:
            self._remind("squeue: SLURM does not answer; still waiting for the jobs")
            return
        self._places.update(standings)
        gone, reasons = set(), []
        for batch in watched:
            for pack in batch.open:
                standing = standings.get((batch.name, pack), cluster.GONE)
                if standing.alive:
                    reasons += [standing.reason] if standing.state == "PENDING" else []
                    continue
                gone.add((batch.name, pack))
                if (batch.name, pack) in self._suspects:
                    self._bury(batch, pack, standing.state)
        self._suspects = gone
        for reason, words in notes(reasons).items():
            self._remind(words, about=reason)

    def _bury(self, batch: JobArray, pack: int, state: str) -> None:
        """Handles a pack that ended before all its jobs reported. Its current job is judged by how
        the pack ended; later jobs never started and are queued again, unless the whole pack was
        cancelled."""
        task, logs = batch.task(pack), batch.folder / "submitit"
        state = state or cluster.final_state(task)
        if state in cluster.LIVE:
            return
        recovery.close(batch, [pack], state)
        batch.look()  # after our own write, which makes a network file system show the rest
        unreported = batch.unreported(pack)
        if not unreported:
            return
        text = cluster.tail([*sorted(logs.glob(f"{task}_*_log.err")), logs / f"{task}_0_log.out"])
        verdict = cluster.judge(state, text, self.settings.memory_gb, self.settings.hours)
        if state in cluster.OURS and pack not in batch.begun and not self._ever_begun:
            recovery.close(batch, batch.open, state)
            raise LaunchError(_before_its_first_line(task, verdict))
        for place in unreported if verdict.outcome == "cancelled" else unreported[:1]:
            batch.say(pack, place, verdict)
        batch.look()


def _before_its_first_line(task: str, verdict: Message) -> str:
    lines = [f"  | {line}" for line in verdict.detail.splitlines()]
    return "\n".join(
        [
            f"job {task} ended before its first line: {verdict.message}",
            *lines,
            "  fix that, or launcher.setup, launcher.python or the partition; the other jobs of the"
            " array were cancelled, and the same command queues them again",
        ]
    )
