"""What a user sees of a running search: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from nos_repro.launch.progress import LivePanel, PlainLines, duration
from nos_repro.search.budget import Budget
from nos_repro.search.state import Tally

if TYPE_CHECKING:
    from nos_repro.search.loop import SearchLoop

PLAIN_SECONDS = 15.0
FEW_SECONDS = 5.0
"""Until then, a rate means nothing."""


def make_display() -> LiveSearchDisplay | PlainSearchDisplay:
    """A live panel if the error stream is a terminal, else plain lines."""
    return LiveSearchDisplay() if sys.stderr.isatty() else PlainSearchDisplay()


def lines(loop: SearchLoop) -> list[str]:
    """How far a search is and how fast, in three lines."""
    tally, budget = loop.tally, loop.budget
    elapsed = time.monotonic() - loop.started
    fresh = tally.evaluated - loop.tallied_before
    pace = ""
    if fresh and elapsed > FEW_SECONDS:
        done, before = budget.share(tally), loop.share_before
        left = (1 - done) / max(done - before, 1e-9) * elapsed
        pace = f"; {fresh / elapsed * 3600:.0f} draws/h, about {duration(left)} left"
    return figures(tally, budget, len(loop.rewards), pace)


def figures(tally: Tally, budget: Budget, unique: int, pace: str = "") -> list[str]:
    """The three lines for a tally; with a cascade, a fourth."""
    return [
        counted(tally, budget, unique) + pace,
        *_staged(tally),
        f"reward: best {tally.best:.4f}, mean {tally.mean:.4f}, recent {tally.recent:.4f};"
        f" entropy of strings {tally.entropy:.1f}, staleness {tally.staleness:.1f}",
        f"best: {tally.best_rule or '-'}",
    ]


def _staged(tally: Tally) -> list[str]:
    """`cascade: cheap 96 (38 stopped), sweep 58 (9 stopped)`."""
    stages = [stage for stage in tally.stages if " " not in stage]
    each = [f"{s} {tally.stages[s]} ({tally.stages[f'{s} stopped']} stopped)" for s in stages]
    return [f"cascade: {', '.join(each)}"] if each else []


def side_run_line(what: str, done: int, total: int, running: Sequence[str]) -> str:
    """`baseline: 2 of 6 trained; in training: Adam, AddSign`."""
    now = f"; in training: {', '.join(running)}" if running else ""
    return f"{what}: {done} of {total} trained{now}"


def counted(tally: Tally, budget: Budget, unique: int) -> str:
    """How many draws there are, of how many different rules, and how many of each kind."""
    kinds = ("healthy", "stopped", "refused", "diverged", "reused", "overran", "failed")
    counts = ", ".join(f"{tally.statuses[kind]} {kind}" for kind in kinds if tally.statuses[kind])
    return f"{budget.words(tally)}, {unique} rules: {counts or 'none yet'}"


class PlainSearchDisplay(PlainLines):
    """Prints three lines from time to time."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._when = 0.0

    def update(self, loop: SearchLoop) -> None:
        over = loop.budget.over(loop.tally)
        quiet = time.monotonic() - self._when
        if loop.tally.evaluated == self._last or (quiet < PLAIN_SECONDS and not over):
            return
        self._last, self._when = loop.tally.evaluated, time.monotonic()
        first, *others = lines(loop)
        self.note(first)
        for line in others:
            print(f"           {line}", file=sys.stderr, flush=True)

    def update_side_runs(self, what: str, done: int, total: int, running: Sequence[str]) -> None:
        if time.monotonic() - self._when < PLAIN_SECONDS:
            return
        self._when = time.monotonic()
        self.note(side_run_line(what, done, total, running))


def _bar(done: float, total: float) -> Padding:
    """A bar on a line of its own."""
    return Padding(ProgressBar(total=total, completed=done, width=60), 0)


class LiveSearchDisplay(LivePanel):
    """A bar, the figures, and the rules being trained."""

    def update_side_runs(self, what: str, done: int, total: int, running: Sequence[str]) -> None:
        line = Text(side_run_line(what, done, total, running))
        self._live.update(Group(_bar(done, total), line))

    def update(self, loop: SearchLoop) -> None:
        head = Text(f"{loop.search.search} ({loop.search.scale})", style="bold")
        bar = _bar(loop.budget.share(loop.tally), 1)
        trained = [Text(f"  {sample.rule}", style="dim") for sample in loop.running.values()]
        self._live.update(Group(head, bar, *map(Text, lines(loop)), *trained[:8]))
