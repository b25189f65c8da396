"""Makes a table: trains every rule that the probes do not refuse, once per task and seed.

What children find is appended to `work.jsonl`, so that a process killed at any moment loses at most
the children that were in training; it is packed into the table's files from time to time and at the
end, and then removed. A table can be extended from its packed files alone, by another machine too.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Protocol

from nos_repro.errors import LaunchError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import remove_scratch
from nos_repro.experiments.heartbeat import Heartbeat
from nos_repro.launch.base import Launcher, Report
from nos_repro.launch.driver import MAX_LOST, drive
from nos_repro.search.child import Child, Evaluation
from nos_repro.search.failure import child_error, keep_traceback
from nos_repro.search.folder import hold
from nos_repro.search.log import Event, Log
from nos_repro.search.loop import MAX_FAILED
from nos_repro.search.session import side_session
from nos_repro.search.table.files import Packed, write_packed
from nos_repro.search.table.job import PackJob
from nos_repro.search.table.opening import chosen_rules, open_table
from nos_repro.search.table.rows import TableRow
from nos_repro.search.table.settings import TablePart, TableSettings

WORK = "work.jsonl"
PACK_SECONDS = 300.0
AGAIN = ("failed", "overran")
"""What is trained again when asked for."""


class TableDisplay(Protocol):
    """Shows how far a table is."""

    def note(self, message: str) -> None: ...

    def update_table(self, what: str, done: int, total: int) -> None: ...


class TableMaker:
    """Makes the table of ``settings`` in its folder, with any launcher of jobs."""

    def __init__(
        self,
        settings: TableSettings,
        folder: Path,
        launcher: Launcher[PackJob],
        conditions: Conditions,
        display: TableDisplay,
        *,
        only: Collection[str] = (),
        retry: bool = False,
        on_packed: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.launcher = launcher
        self.conditions = conditions
        self.display = display
        self.only = only
        self.retry = retry
        self.on_packed = on_packed
        self.log = Log(folder / WORK)
        self.rows: dict[str, dict[tuple[int, int], TableRow]] = {}
        """For every task, the rows by rule and seed."""
        self.failed = 0
        """Children that failed by a bug since the last one that did not."""
        self.unpacked = 0
        self.packed_at = time.monotonic()

    def run(self) -> None:
        """Trains what is missing, of the tasks ``only``, if given; with ``retry``, also what
        failed by a bug or overran: a busy machine may have been to blame.

        Raises ConfigError if the folder has a table with other settings or another process is at
        work there, DataError if its files are damaged, LogError if its log is, StoreError if the
        disk fails, LaunchError if workers vanish again and again, ChildError if children fail by a
        bug.
        """
        with hold(self.folder) as heartbeat:
            remove_scratch(self.folder)
            remove_scratch(self.folder / "answers")
            packed = open_table(self.settings, self.folder, self.display.note)
            self._resume(packed)
            try:
                for name, task in self.settings.tasks.items():
                    for part in task.parts if not self.only or name in self.only else ():
                        self._train(packed, name, part, heartbeat)
            finally:
                self.launcher.close()
                self._pack(packed)
            with contextlib.suppress(OSError):
                (self.folder / "answers").rmdir()

    def _resume(self, packed: Packed) -> None:
        """Takes in what is on disk."""
        for name in packed.settings["tasks"]:
            rows = packed.rows.get(name, [])
            self.rows[name] = {(row.rule, row.seed): row for row in rows}
        note = self.log.open()
        if note is not None:
            self.display.note(note)
        for event in self.log.read():
            self._take(packed, event)
        if self.retry:
            for name, known in self.rows.items():
                self.rows[name] = {p: row for p, row in known.items() if row.status not in AGAIN}

    def _take(self, packed: Packed, event: Event) -> None:
        """Takes in an event of the log."""
        if event["event"] == "session":
            made = {key: value for key, value in event.items() if key not in ("event", "workers")}
            if made not in packed.made:
                packed.made.append(made)
        elif event["event"] == "trained" and event["task"] in self.rows:
            child = packed.child(event["task"])
            found = Evaluation.from_json(event["evaluation"])
            row = TableRow.of(event["rule"], event["seed"], found, child, event["code"])
            self.rows[event["task"]][row.rule, row.seed] = row
            self.unpacked += 1

    def _train(self, packed: Packed, name: str, part: TablePart, heartbeat: Heartbeat) -> None:
        """Trains the rules of one part of a task."""
        task, rows = self.settings.tasks[name], self.rows[name]
        chosen = chosen_rules(self.settings, packed, self.rows, name, part).rules
        wanted = [(rule, seed) for seed in part.seeds for rule in chosen]
        missing = [place for place in wanted if place not in rows]
        if not missing:
            return
        held = self.conditions.device_settings
        begun = {**side_session(task.child, self.launcher.free, held), "task": name}
        code: str = begun["code"]
        numbers = {rule.key: number for number, rule in enumerate(packed.rules)}
        queue = deque(self._jobs(packed, name, task.child, missing, task.together))
        self._append(packed, [begun])

        def record(job: PackJob, found: dict[str, Evaluation]) -> None:
            events = [
                {"event": "trained", "task": name, "rule": numbers[key], "seed": job.seed,
                 "code": code, "evaluation": answer.to_log()}
                for key, answer in found.items()
            ]  # fmt: skip
            self._append(packed, events)
            self.log.sync()
            job.forget()

        def tick() -> None:
            done = sum(place in rows for place in wanted)
            self.display.update_table(name, done, len(wanted))
            heartbeat.beat(done, None)
            if self.unpacked and time.monotonic() - self.packed_at > PACK_SECONDS:
                self._pack(packed)

        for job in list(queue):  # a cluster went on after the process that asked had died
            if job.is_done():
                queue.remove(job)
                record(job, job.answers())
        for report, found in self._driven(queue, tick):
            job = report.job
            record(job, found)
            self._check(job, found)
            left = {key: text for key, text in job.rules.items() if key not in found}
            packs = [{key: text} for key, text in left.items()]  # one hangs, the others are sound
            if report.outcome != "overran":
                packs = [left] if left else []
            queue.extend(self._job(name, task.child, job.seed, pack) for pack in packs)

    def _driven(
        self, queue: deque[PackJob], tick: Callable[[], None]
    ) -> Iterator[tuple[Report[PackJob], dict[str, Evaluation]]]:
        """Runs the jobs of the queue; yields what each has found: nothing, if it was killed for its
        time before it had saved anything. Raises LaunchError."""
        lost = 0

        def ready() -> Iterator[PackJob]:
            while queue:
                yield queue.popleft()

        for report in drive(ready, self.launcher, self.display.note, tick):
            found = _answers(report)
            if found or report.outcome == "overran":
                lost = 0
                yield report, found
                continue
            lost += 1
            if lost >= MAX_LOST:
                raise LaunchError(
                    f"{report.job.label}: its worker vanished ({report.message}), as did those of"
                    " the jobs before it\n"
                    "  nothing is lost: repair the machine and run the same command again"
                )
        tick()

    def _jobs(
        self,
        packed: Packed,
        name: str,
        child: Child,
        missing: list[tuple[int, int]],
        together: int,
    ) -> Iterator[PackJob]:
        """The missing rows as jobs. Which rules share one is the same in every process."""
        packs: dict[tuple[int, int], dict[str, str]] = {}
        for number, seed in missing:
            rule = packed.rules[number]
            packs.setdefault((seed, number // together), {})[rule.key] = f"rule: {rule.text}"
        for (seed, _), rules in packs.items():
            yield self._job(name, child, seed, rules)

    def _job(self, name: str, child: Child, seed: int, rules: dict[str, str]) -> PackJob:
        label = f"{name}-{seed}-{next(iter(rules))}"
        return PackJob(label, rules, child, self.conditions, self.folder / "answers", seed)

    def _check(self, job: PackJob, found: dict[str, Evaluation]) -> None:
        """Raises ChildError if children fail by a bug."""
        for key, answer in found.items():
            self.failed = self.failed + 1 if answer.status == "failed" else 0
            if answer.status != "failed":
                continue
            keep_traceback(self.folder, job.name, answer)
            if answer.fault == "settings" or self.failed >= MAX_FAILED:
                what = f"the child of {job.rules[key]} failed"
                raise child_error(self.folder, job.name, answer, what)
            self.display.note(f"{job.rules[key]}: failed ({answer.reason})")

    def _append(self, packed: Packed, events: list[Event]) -> None:
        self.log.append(events)
        for event in events:
            self._take(packed, event)

    def _pack(self, packed: Packed) -> None:
        """Writes the table's files, then removes the log."""
        for name, rows in self.rows.items():
            packed.rows[name] = list(rows.values())
        write_packed(self.folder, packed)
        self.on_packed(self.folder)
        self.log.path.unlink(missing_ok=True)
        self.log = Log(self.folder / WORK)
        self.unpacked, self.packed_at = 0, time.monotonic()


def _answers(report: Report[PackJob]) -> dict[str, Evaluation]:
    """What a job has found; nothing if its worker vanished. If it was killed for its time and only
    one child has no answer, that one has overrun; of several, which a job may have found and not
    yet saved, nobody knows which one hangs. Raises LaunchError."""
    job = report.job
    if report.outcome in ("cancelled", "timed_out"):
        raise LaunchError(
            f"{job.label}: {report.message}\n"
            "  nothing is lost: run the same command again to continue"
        )
    found = job.answers()
    if report.outcome == "overran":
        lacking = [key for key in job.rules if key not in found]
        if len(lacking) == 1:
            found[lacking[0]] = Evaluation("overran", 0.0, reason=f"hung: {report.message}")
    return found
