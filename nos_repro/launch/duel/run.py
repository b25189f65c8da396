"""Runs a duel: both rows are tuned, then paired seeds are added until they decide.

The trials are the study's own, in its own folder: what is recorded is used, what was killed goes
on, and of two people who run the same command each trains what the other does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nos_repro.experiments.build import Conditions
from nos_repro.experiments.store import Store
from nos_repro.experiments.tracker import Tracker
from nos_repro.launch.base import Launcher
from nos_repro.launch.cost import Unit
from nos_repro.launch.duel.contest import Duel
from nos_repro.launch.duel.sequence import fewest_pairs
from nos_repro.launch.duel.standing import (
    DuelOutcome,
    is_running,
    progress_words,
    standing,
    wanted,
)
from nos_repro.launch.progress import make_display
from nos_repro.launch.run import prepare_data, worker_count
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.study_run import StudyRun
from nos_repro.launch.work import TrialJob


@dataclass
class DuelRun(StudyRun):
    """A duel in progress: ``batch`` pairs are added at a time."""

    duel: Duel | None = None
    batch: int = 1
    unit: Unit = field(default_factory=lambda: Unit("CPU-hours", 1))
    warned: set[str] = field(default_factory=set)

    def _ready_jobs(self) -> Iterator[TrialJob | None]:
        self._add_pairs()
        return super()._ready_jobs()

    def outcome(self) -> DuelOutcome:
        assert self.duel is not None
        return standing(self.duel, self.rows, self.unit)

    def _forget_failures(self) -> None:
        """Those of every pair that may be asked for, not only of the first."""
        assert self.duel is not None
        asked, self.study = self.study, self.duel.over(self.duel.limits.most)
        super()._forget_failures()
        self.study = asked

    def _add_pairs(self) -> None:
        """Adds pairs while all that were asked for have ended and more are wanted: some of them may
        be recorded already."""
        assert self.duel is not None
        self._warn_of_edges()
        while not is_running(found := self.outcome()):
            asked = self.study.selection.repeats
            if found.judgement.pairs:
                self.display.note(progress_words(found))
            more = wanted(found, asked, self.batch)
            if not more:
                return
            self.study = self.duel.over(asked + more)
            self._refresh(self.study.rows)

    def _warn_of_edges(self) -> None:
        """Says early of a row that it cannot lose."""
        for row in self.rows.values():
            if row.edges and row.name not in self.warned:
                self.warned.add(row.name)
                self.display.note(f"{row.name}: its best {', '.join(row.edges)} is at the edge of"
                                  " its grid, so that it cannot lose")  # fmt: skip


def run_duel(
    duel: Duel,
    store: Store,
    launcher: Launcher[TrialJob],
    conditions: Conditions,
    unit: Unit,
    *,
    batch: int = 1,
    retry: bool = False,
    tracker: Tracker | None = None,
) -> DuelOutcome:
    """Runs the duel to its end."""
    prepare_data(duel.study, conditions)
    display = make_display()
    first = 1 if duel.limits.hours is not None else min(batch, duel.limits.most)
    run = DuelRun(
        duel.over(first), store, launcher, conditions, display, retry, tracker,
        duel=duel, batch=batch, unit=unit,
    )  # fmt: skip
    try:
        run.run()
    finally:
        display.close()
    return run.outcome()


def batch_of(settings: LauncherSettings, workers: int | None, threads: int) -> int:
    """How many pairs are trained at a time: as many as keep all workers busy, but no more than may
    decide at once, for what a batch trains beyond the decision is lost."""
    slurm = settings.name == "slurm"
    trials = settings.array_parallelism if slurm else worker_count(workers, threads)
    return min(max(1, trials // 2), fewest_pairs())
