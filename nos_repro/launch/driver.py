"""How jobs of every kind are driven, wherever they run: each is handed over, waited for, tried
again if its worker vanished, and reported once."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import chain

from nos_repro.experiments.files import StoreError
from nos_repro.launch.base import J, Launcher, Report

MAX_LOST = 3
"""A job is given up once its worker has vanished this many times in a row."""

TICK_SECONDS = 1.0
APPEARS_SECONDS = 60.0
"""On a network file system, a file written by another host may take this long to appear."""

Ready = Callable[[], Iterator[J | None]]
"""What may be started now, most urgent first. The next job is requested only when the launcher can
take one more. None: check what has ended, then ask again at once."""


def drive(
    ready: Ready[J],
    launcher: Launcher[J],
    note: Callable[[str], None],
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Report[J]]:
    """Runs jobs until ``ready`` has none and none is left; yields the last report of each.

    A job whose result is on disk is done, even if its worker died. Otherwise a job whose worker
    vanished is tried again until that has happened MAX_LOST times in a row, and a job that saved
    its state and stopped is tried again without limit. ``note`` takes messages; ``tick`` is called
    about once a second. The launcher stays open. Raises StoreError if the disk fails, and whatever
    the launcher raises.
    """
    unfinished: set[str] = set()
    again: deque[J] = deque()
    lost: Counter[str] = Counter()
    while True:
        submitted, more = hand_over(chain(_popped(again), ready()), launcher)
        unfinished.update(job.identity for job in submitted)
        tick()
        if not unfinished and not more:
            return
        for report in map(_by_what_is_on_disk, launcher.wait(0.0 if more else TICK_SECONDS)):
            identity = report.job.identity
            lost[identity] += report.outcome == "lost"
            if report.outcome == "blocked":
                raise StoreError(report.message)
            if report.outcome == "stopped":
                again.appendleft(report.job)
            elif report.outcome == "lost" and lost[identity] < MAX_LOST:
                note(in_words(report, "tried again"))
                again.append(report.job)
            else:
                unfinished.discard(identity)
                del lost[identity]
                yield report


def hand_over(jobs: Iterator[J | None], launcher: Launcher[J]) -> tuple[list[J], bool]:
    """Submits jobs while the launcher takes more; returns them and whether to ask again at once."""
    submitted: list[J] = []
    while launcher.free:
        try:
            job = next(jobs)
        except StopIteration:
            return submitted, False
        if job is None:
            return submitted, True
        launcher.submit(job)
        submitted.append(job)
    return submitted, False


def in_words(report: Report[J], then: str) -> str:
    """What happened to a job and what follows, with the end of its log if that helps."""
    head = f"{report.job.label}: {report.message or report.outcome}; {then}"
    shown = report.detail.splitlines() if report.outcome != "cancelled" else []
    return "\n".join([head, *(f"  | {line}" for line in shown)])


def _popped(jobs: deque[J]) -> Iterator[J]:
    while jobs:
        yield jobs.popleft()


def _by_what_is_on_disk(report: Report[J]) -> Report[J]:
    """The report, corrected by whether the job's result is on disk."""
    if report.outcome in ("held", "blocked"):
        return report
    recorded = report.outcome == "recorded"
    deadline = time.monotonic() + (APPEARS_SECONDS if recorded else 0.0)
    while not (done := report.job.is_done()) and time.monotonic() < deadline:
        time.sleep(0.2)
    if recorded and not done:
        return Report(report.job, "lost", "its result is not on disk")
    return Report(report.job, "recorded") if done and not recorded else report
