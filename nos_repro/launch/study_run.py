"""Runs a study: starts what has no record, until every row has its number."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from nos_repro.errors import LaunchError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import (
    Leg,
    Outcome,
    depend_on_each_other,
    outcome,
    outcomes,
    stops,
)
from nos_repro.experiments.store import Store
from nos_repro.experiments.tracker import Tracker
from nos_repro.experiments.trial import Trial
from nos_repro.launch.base import Launcher, Report
from nos_repro.launch.driver import TICK_SECONDS, drive, hand_over, in_words
from nos_repro.launch.work import TrialJob

COMPACT_SECONDS, COMPACT_SHARE = 10.0, 0.05
"""`records.jsonl` is rewritten at most this often, and in at most this share of the time."""

DISPLAY_SHARE = 0.01
"""Showing progress takes at most this share of the time: with hundreds of trials it is slow."""

HELD_SECONDS = 5.0
"""A trial that another process holds is checked again after this."""


class StudyDisplay(Protocol):
    """Shows how a study is going."""

    def update(self, state: StudyRun) -> None: ...

    def note(self, message: str) -> None: ...


@dataclass
class StudyRun:
    """A run of a study in progress: which trials run, which have ended, what waits."""

    study: Study
    store: Store
    launcher: Launcher[TrialJob]
    conditions: Conditions
    display: StudyDisplay
    retry: bool = False
    tracker: Tracker | None = None
    running: dict[str, TrialJob] = field(default_factory=dict)
    rows: dict[str, Outcome] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    given_up: set[str] = field(default_factory=set)
    held: dict[str, float] = field(default_factory=dict)
    fresh: list[Trial] = field(default_factory=list)
    compact_at: float = 0.0
    display_at: float = 0.0

    def run(self) -> list[Outcome]:
        """Drives the study to its end and returns its rows.

        Raises StoreError if the disk fails; on KeyboardInterrupt every running trial is saved.
        Either way the next call continues from there.
        """
        if self.retry:
            self._forget_failures()
        self._refresh(self.study.rows)
        try:
            for report in drive(self._ready_jobs, self.launcher, self.display.note, self._show):
                self._take(report)
        finally:
            for report in self.launcher.close():
                self.running.pop(report.job.trial.id, None)
            self.store.compact(self.trials())
            self.display.update(self)
        return list(self.rows.values())

    def hand_over(self) -> int:
        """Submits only what can be started now; returns how many trials that is."""
        if self.retry:
            self._forget_failures()
        self._refresh(self.study.rows)
        return len(hand_over(self._ready_jobs(), self.launcher)[0])

    def _show(self) -> None:
        started = time.monotonic()
        if started >= self.display_at:
            self.display.update(self)
            now = time.monotonic()
            self.display_at = now + (now - started) / DISPLAY_SHARE

    def trials(self) -> list[Trial]:
        """Every trial known so far, each once."""
        return list({t.id: t for row in self.rows.values() for t in row.trials}.values())

    def _forget_failures(self) -> None:
        for row in outcomes(self.study, self.store):
            for record in row.records:
                if record.status == "failed":
                    trial = next(t for t in row.trials if t.id == record.id)
                    self.display.note(f"{trial.label()}: failed before, tried again")
                    self.store.retry(trial)

    def _refresh(self, names: Iterable[str]) -> None:
        if depend_on_each_other(self.study):
            self.rows = {row.name: row for row in outcomes(self.study, self.store)}
            self._write_stops()
            return
        for name in names:
            self.rows[name] = outcome(self.study, name, self.store)

    def _write_stops(self) -> None:
        """Notes in the record of each trial that a rung has stopped that it was, and why."""
        fresh = []
        for row, trial, record in stops(self.rows.values()):
            before = self.store.record(trial)
            if before is None or not before.partial or before.reason == record.reason:
                continue
            fresh.append(record)
            if row.chosen is not None and row.chosen.trial == trial:
                self.display.note(f"{row.name}, {row.chosen.point}: {record.reason}")
        if fresh:
            self.store.replace(*fresh)

    def _ready(self) -> list[Leg]:
        """What to start: trials without a record, not running and not given up, each once."""
        ready = {
            leg.trial.id: leg
            for row in self.rows.values()
            for leg in row.legs
            if leg.trial.id not in self.running and leg.trial.id not in self.given_up
        }
        return list(ready.values())

    def _ready_jobs(self) -> Iterator[TrialJob | None]:
        """What `drive` may start. If only trials that other processes hold are left, waits for
        those."""
        ready, now = self._ready(), time.monotonic()
        rungs = tuple(self.study.halving.rungs) if self.study.halving is not None else ()
        for leg in ready:
            trial = leg.trial
            if self.held.get(trial.id, 0.0) > now:
                continue
            self.running[trial.id] = TrialJob(
                trial,
                self.store.open(trial),
                self.conditions,
                until=leg.end,
                rungs=rungs,
                tracker=self.tracker,
            )
            yield self.running[trial.id]
        if ready and not self.running:
            time.sleep(TICK_SECONDS)
            self._refresh(self.study.rows)
            yield None

    def _take(self, report: Report[TrialJob]) -> None:
        trial = report.job.trial
        self.running.pop(trial.id, None)
        if report.outcome == "held":
            if trial.id not in self.held:
                self.display.note(f"{trial.label()}: another process is training it; waiting")
            self.held[trial.id] = time.monotonic() + HELD_SECONDS
        elif report.outcome == "recorded":
            if report.message:
                self.display.note(f"{trial.label()}: {report.message}")
            self.held.pop(trial.id, None)
            self._settle(trial)
        else:
            self.given_up.add(trial.id)
            self.display.note(in_words(report, "given up for this run"))

    def _settle(self, trial: Trial) -> None:
        """Reads the rows of a trial that has ended again, and sometimes writes `records.jsonl`."""
        record = self.store.record(trial)
        if record is None:
            raise LaunchError(f"{self.store.folder(trial)}: its worker wrote no readable record")
        if record.status in ("diverged", "failed"):
            self.display.note(f"{trial.label()}: {record.status} ({record.reason})")
        touched = [n for n, row in self.rows.items() if trial.id in {t.id for t in row.trials}]
        self._refresh(touched)
        self.fresh.append(trial)
        if time.monotonic() >= self.compact_at:
            self._compact()

    def _compact(self) -> None:
        started = time.monotonic()
        self.store.compact(self.fresh)
        self.fresh.clear()
        now = time.monotonic()
        self.compact_at = now + max(COMPACT_SECONDS, (now - started) / COMPACT_SHARE)
