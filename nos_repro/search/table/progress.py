"""What a user sees while a table is made."""

from __future__ import annotations

import sys
import time

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.text import Text

from nos_repro.launch.progress import PLAIN_SECONDS, LivePanel, PlainLines, duration


class Pace:
    """How fast a task's rules are trained by this process."""

    def __init__(self) -> None:
        self._part = ("", 0)
        self._first = 0
        self._begun = time.monotonic()

    def line(self, what: str, done: int, total: int) -> str:
        """`digits: 300 of 1,157 rows; 12 rows/s, about 70 s left`."""
        if (what, total) != self._part or done < self._first:  # another task, or part of one
            self._part, self._first, self._begun = (what, total), done, time.monotonic()
        fresh, seconds = done - self._first, time.monotonic() - self._begun
        said = f"{what}: {done:,} of {total:,} rows"
        if not fresh or seconds < 5:
            return said
        left = duration(seconds / fresh * (total - done))
        return f"{said}; {fresh / seconds * 3600:,.0f} an hour, about {left} left"


class PlainTableDisplay(PlainLines):
    """Prints a line from time to time."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._when = 0.0

    def update_table(self, what: str, done: int, total: int) -> None:
        line = self._pace.line(what, done, total)
        if done < total and time.monotonic() - self._when < PLAIN_SECONDS:
            return
        self._when = time.monotonic()
        self.note(line)


class LiveTableDisplay(LivePanel):
    """A bar and a line."""

    def __init__(self) -> None:
        super().__init__()
        self._pace = Pace()

    def update_table(self, what: str, done: int, total: int) -> None:
        bar = ProgressBar(total=max(1, total), completed=done, width=60)
        self._live.update(Group(bar, Text(self._pace.line(what, done, total))))


def make_display() -> PlainTableDisplay | LiveTableDisplay:
    """A live panel if the error stream is a terminal, else plain lines."""
    return LiveTableDisplay() if sys.stderr.isatty() else PlainTableDisplay()
