"""What a user sees of a running study: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nos_repro.experiments.files import StoreError
from nos_repro.experiments.halving import stages
from nos_repro.experiments.heartbeat import Lease, read_lease
from nos_repro.experiments.record import STATUSES, Record
from nos_repro.experiments.selection import Leg

if TYPE_CHECKING:
    from nos_repro.launch.study_run import StudyRun

PLAIN_SECONDS = 15.0


def make_display() -> LiveStudyDisplay | PlainStudyDisplay:
    """A live table if the error stream is a terminal, else plain lines; standard output is kept for
    the study's table."""
    return LiveStudyDisplay() if sys.stderr.isatty() else PlainStudyDisplay()


class Counts:
    """How far a study is: ended trials by kind, and epochs done and left."""

    def __init__(self, state: StudyRun) -> None:
        trials: dict[str, Record | None] = {}
        legs: dict[str, Leg] = {}
        at_rung: dict[str, int] = {}
        self.total, self.left = 0, _later_epochs(state)
        for row in state.rows.values():
            trials |= {s.trial.id: s.record for s in row.sweep}
            trials |= {trial.id: record for trial, record in row.repeats}
            legs |= {leg.trial.id: leg for leg in row.legs}
            if row.standing is not None:
                at_rung |= {s.trial.id: row.standing.until for s in row.sweep if s.waiting}
            if row.chosen is None and (row.missing or row.growing):
                self.total += state.study.selection.repeats
                self.left += state.study.selection.repeats * state.study.training.epochs
        self.ended = Counter(record.status for record in trials.values() if record is not None)
        self.ended["paused"] = len(at_rung)
        self.total += len(trials)
        self.running = sum(_epochs_done(state, legs[id_]) for id_ in state.running if id_ in legs)
        self.done = sum(record.epoch for record in trials.values() if record is not None)
        self.done += sum(leg.start for leg in legs.values()) + sum(at_rung.values())
        self.left += sum(leg.end - leg.start for leg in legs.values()) - self.running
        self.elapsed = time.monotonic() - state.started

    def summary(self) -> str:
        """`12/40 trials: 10 finished, 1 diverged, 1 failed`."""
        kinds = ", ".join(f"{self.ended[kind]} {kind}" for kind in STATUSES if self.ended[kind])
        ended = self.ended.total() - self.ended["paused"]
        return f"{ended}/{self.total} trials" + (f": {kinds}" if kinds else "")

    def eta(self, before: float) -> str:
        """Time left at the pace since the run began with ``before`` epochs done; "" at first."""
        fresh = self.done + self.running - before
        if fresh <= 0 or not self.left or self.elapsed < 5:
            return ""
        return duration(self.elapsed / fresh * self.left)


def _later_epochs(state: StudyRun) -> float:
    """Epochs that a race trains beyond the rung that it trains towards."""
    halving = state.study.halving
    if halving is None:
        return 0
    now = {n: row.standing for n, row in state.rows.items() if row.standing is not None}
    return sum(stage.epochs for stage in stages(halving, state.study.training.epochs, now))


def _epochs_done(state: StudyRun, leg: Leg) -> float:
    """Epochs that a running leg has done."""
    return max(0.0, leg.trial.training.epochs * progress(state, leg.trial.id) - leg.start)


def progress(state: StudyRun, id_: str) -> float:
    """The share of a trial's steps that are done, by its heartbeat; 0 if it is not running."""
    job = state.running.get(id_)
    claim = _claim(job.folder) if job is not None else None
    return claim.share if claim is not None else 0.0


def _claim(folder: Path) -> Lease | None:
    """The claim on a trial; None too if it cannot be read now: a display stops nothing."""
    try:
        return read_lease(folder)
    except StoreError:
        return None


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def say(message: str) -> None:
    """A line with the time on the error stream: standard output is kept for the table."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


class PlainLines:
    """A display of plain lines, each with the time."""

    def note(self, message: str) -> None:
        say(message)

    def close(self) -> None:
        pass


class LivePanel:
    """A display that redraws itself on a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def note(self, message: str) -> None:
        self._console.print(Text(message))

    def close(self) -> None:
        self._live.stop()


class PlainStudyDisplay(PlainLines):
    """Prints a line when something has ended, and one from time to time while nothing does."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._when = 0.0
        self._before: float | None = None

    def update(self, state: StudyRun) -> None:
        counts = Counts(state)
        if self._before is None:
            self._before = counts.done
        summary = counts.summary()
        quiet = time.monotonic() - self._when
        if (summary == self._last and quiet < PLAIN_SECONDS) or (quiet < 1 and state.running):
            return
        self._last, self._when = summary, time.monotonic()
        eta = counts.eta(self._before)
        left = f", about {eta} left" if eta else ""
        self.note(f"{summary}, {len(state.running)} {state.launcher.word}{left}")


class LiveStudyDisplay(LivePanel):
    """Running trials with bars, ended trials by kind, and the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._before: float | None = None

    def update(self, state: StudyRun) -> None:
        counts = Counts(state)
        if self._before is None:
            self._before = counts.done
        table = Table.grid(padding=(0, 1))
        for id_, job in state.running.items():
            claim = _claim(job.folder)
            if claim is None:  # it is waiting in a cluster's queue
                continue
            bar = ProgressBar(total=1.0, completed=progress(state, id_), width=24)
            table.add_row(Text(job.trial.label()), bar, Text(claim.shown("val_"), style="dim"))
        eta = counts.eta(self._before)
        head = f"{state.study.study} ({state.study.scale})  {counts.summary()}"
        self._live.update(
            Group(Text(head + (f", about {eta} left" if eta else ""), style="bold"), table)
        )


__all__ = [
    "LiveStudyDisplay",
    "PlainStudyDisplay",
    "duration",
    "make_display",
    "say",
]
