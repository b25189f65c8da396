"""A search as one run of W&B: a point per sample, and a table of its children.

One run per child would take minutes for what takes a second here. `wandb.json` next to the log says
how many samples have been logged to the run; a process that continues the search logs the rest. If
a process is killed, the last `REMEMBERED` of them may be in the run twice or not at all; the
search's own log has them right.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nos_repro.rules.simplest import simplest_text
from nos_repro.search.log import Event
from nos_repro.search.settings import Search
from nos_repro.search.side_runs import race_order
from nos_repro.search.state import Tally
from nos_repro.tracking.artifacts import log_files
from nos_repro.tracking.connection import Mode, RunMemory, close_run, open_run
from nos_repro.tracking.metrics import (
    BEST_RULE,
    CHILD,
    CHILDREN,
    SAMPLES,
    baseline_rewards,
    child_row,
    group_of,
    made_by,
    search_point,
)
from nos_repro.tracking.wandb_runs import TAG_CHARACTERS

log = logging.getLogger(__name__)

REMEMBERED = 100
FIRST_TABLE = 50
"""The table is first written after this many samples, then each time their number has doubled,
since a table is always written whole."""

GIVEN_UP = "nothing more of this search is logged to W&B; its own log is complete"


LOG_FILES = ("settings.json", "log.jsonl", "named.jsonl")


@contextmanager
def follow_search(
    search: Search, folder: Path, mode: Mode, artifacts: Sequence[str] = ()
) -> Iterator[FollowedSearch]:
    """A follower that takes every event of the search's log; its run is closed at the end."""
    path, stem = folder / "wandb.json", f"{search.search}-{search.scale}"
    memory = RunMemory.recall(path, stem)
    unknown = memory is None
    followed = FollowedSearch(
        search, folder, mode, memory or RunMemory(path, stem), artifacts, broken=unknown
    )
    try:
        yield followed
    finally:
        followed.close()


@dataclass
class FollowedSearch:
    """Logs a search to its run, which is opened at the first sample that it does not have yet."""

    search: Search
    folder: Path
    mode: Mode
    memory: RunMemory
    artifacts: Sequence[str] = ()
    """What to log as artifacts at the end: "checkpoints" (the controller's), "tables" (the log)."""
    run: Any = None
    broken: bool = False
    """Whether W&B has failed; then the rest of the search is not logged."""
    tally: Tally = field(default_factory=Tally)
    rows: list[list[Any]] = field(default_factory=list)

    def take(self, event: Event) -> None:
        self.tally.take(event)
        if event["event"] != "evaluated":
            return
        self.rows.append(child_row(event))
        if self.tally.evaluated <= self.memory.told or self.broken:
            return
        try:
            self._tell(event)
        except Exception:  # nothing that W&B does may fail a search
            self.broken = True
            log.warning(GIVEN_UP, exc_info=True)

    def _tell(self, event: Event) -> None:
        if self.run is None:
            self.run = open_run(self.mode, self.folder.absolute(), self._named, self._prepare)
            if self.run is None:
                self.broken = True
                return
            self.memory = self.memory.of(self.run)
            self.memory.save()
        self.run.log(search_point(event, self.tally))
        self.memory.told = count = self.tally.evaluated
        if count % REMEMBERED == 0:
            self.memory.save()
        doublings, rest = divmod(count, FIRST_TABLE)
        if count and not rest and doublings & (doublings - 1) == 0:
            self._write_table()

    def close(self) -> None:
        """Writes the table as it is now, and ends this process's part of the run."""
        if self.run is None:
            return
        if not self.broken:
            try:
                self._write_table()
                for winner in race_order(self.folder)[:1]:
                    self.run.summary[BEST_RULE] = simplest_text(winner)
                self._log_artifacts()
            except Exception:
                log.warning(GIVEN_UP, exc_info=True)
        if close_run(self.run):
            self.memory.save()

    def _log_artifacts(self) -> None:
        wanted = {"checkpoints": ("model", ("checkpoint.pt",)), "tables": ("log", LOG_FILES)}
        for name in self.artifacts:
            kind, files = wanted[name]
            log_files(self.run, f"{self.memory.id}-{kind}", kind, [self.folder / f for f in files])

    def _write_table(self) -> None:
        import wandb

        table = wandb.Table(columns=list(CHILD), data=self.rows, allow_mixed_types=True)
        self.run.log({CHILDREN: table, SAMPLES: self.tally.evaluated})
        self.run.summary[BEST_RULE] = self.tally.best_rule

    def _named(self) -> dict[str, Any]:
        search = self.search
        return {
            "id": self.memory.id,
            "name": f"{search.search} ({search.scale})",
            "group": group_of(search.search, search.scale),
            "job_type": "search",
            "tags": [search.algorithm["name"][:TAG_CHARACTERS]],
            "config": {**search.identity(), "samples": search.samples, **made_by()},
        }

    def _prepare(self, run: Any) -> None:
        run.define_metric(SAMPLES)
        run.define_metric("*", step_metric=SAMPLES)
        run.summary.update(baseline_rewards(self.folder, self.search.baselines))
