"""A thousand workers and 45,000 rules (sec. 3.3 and 4.2, where a hundred work): does one controller
keep them all busy?

The search's own loop, on disk as usual, with children that only sleep. Their times are log-normal
and on average half a minute, where the papers' children take minutes: with ten times the papers'
workers too, the controller has about a hundredth of the time that it has in their search. A rule's
reward is a number derived from its text.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import write_json
from nos_repro.experiments.settings_file import find_config
from nos_repro.launch.base import Report
from nos_repro.search.child import Evaluation
from nos_repro.search.job import EvaluationJob
from nos_repro.search.loop import SearchLoop
from nos_repro.search.settings import load_search

WORKERS, SAMPLES = 1000, 45_000
MEAN_SECONDS, SPREAD = 30.0, 1.0
"""A child takes MEAN_SECONDS exp(SPREAD z - SPREAD^2 / 2) with z ~ N(0, 1)."""
MOST_MS = 5.0
"""Of the controller's own time per rule."""
SETTLED = 5_000
"""Samples after which memory is first read; growth from there on would never end."""


@BENCHMARKS.register("search-workers")
def search_workers() -> Iterator[Measurement]:
    """The share of time in which the workers are busy; memory; the loop's time per rule."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from simulate(WORKERS, SAMPLES, MEAN_SECONDS)
    finally:
        torch.set_num_threads(threads)


def simulate(workers: int, samples: int, mean_seconds: float) -> Iterator[Measurement]:
    """The rows of the benchmark, at any size."""
    search = dataclasses.replace(load_search(find_config("search")), samples=samples, baselines={})
    sleepers = Sleepers(workers, mean_seconds)
    memory = _Memory(min(SETTLED, samples // 3))
    with tempfile.TemporaryDirectory() as folder:
        loop = SearchLoop(search, Path(folder), sleepers, Conditions(Path(folder)), memory, workers)
        cpu = time.process_time()
        loop.run()
        cpu = time.process_time() - cpu
    busy, growth = sleepers.busy_share, memory.last / memory.first
    yield Measurement(f"{workers} workers, {samples:,} rules: busy", _single(busy), at_least=0.97)
    yield Measurement("memory at the end over that at the start", _single(growth), at_most=1.1)
    yield Measurement("memory", _single(memory.last, "MB"))
    own = _single(1000 * cpu / samples, "ms")
    yield Measurement("the controller's own time per rule", own, at_most=MOST_MS)
    yield Measurement("mean time of a child", _single(sleepers.mean, "s"))
    trained = loop.tally.statuses["healthy"]
    yield Measurement(
        "trained (the others were refused or known)", _single(float(trained), "rules")
    )


def _single(value: float, unit: str = "x") -> Ratio:
    return Ratio(value, value, value, 1, unit)


class Sleepers:
    """Workers whose children sleep. A worker is busy from submission to the end of the sleep, not
    until the end is reported."""

    word = "asleep"

    def __init__(self, workers: int, mean_seconds: float, seed: int = 0) -> None:
        self.workers = workers
        self.mean_seconds = mean_seconds
        self._random = random.Random(seed)
        self._asleep: list[tuple[float, int, EvaluationJob]] = []
        self._sleeps: list[tuple[float, float]] = []

    @property
    def free(self) -> int:
        return self.workers - len(self._asleep)

    def submit(self, job: EvaluationJob) -> None:
        now = time.monotonic()
        shape = math.exp(SPREAD * self._random.gauss(0, 1) - SPREAD**2 / 2)
        end = now + self.mean_seconds * shape
        self._sleeps.append((now, end))
        heapq.heappush(self._asleep, (end, len(self._sleeps), job))

    def wait(self, seconds: float) -> list[Report[EvaluationJob]]:
        if not self._asleep:
            return []
        time.sleep(max(0.0, min(seconds, self._asleep[0][0] - time.monotonic())))
        reports = []
        while self._asleep and self._asleep[0][0] <= time.monotonic():
            _, _, job = heapq.heappop(self._asleep)
            reward = random.Random(job.optimizer).random()
            found = Evaluation("healthy", reward, 0.1)
            write_json(job.path, {"key": job.key, "evaluation": found.to_json()})
            reports.append(Report(job, "recorded"))
        return reports

    def close(self) -> list[Report[EvaluationJob]]:
        return []

    @property
    def mean(self) -> float:
        """Mean seconds per child."""
        return statistics.fmean(end - start for start, end in self._sleeps)

    @property
    def busy_share(self) -> float:
        """The busy share of all workers' time, from the first child's start to the last one's;
        after that there was nothing left to hand out."""
        first, last = self._sleeps[0][0], self._sleeps[-1][0]
        slept = sum(min(end, last) - start for start, end in self._sleeps)
        return slept / (self.workers * (last - first)) if last > first else 0.0


class _Memory:
    """A display that shows nothing and records the process's memory."""

    def __init__(self, settled: int) -> None:
        self.settled = settled
        self.first = 0.0
        self.last = 0.0

    def update(self, loop: SearchLoop) -> None:
        if loop.tally.evaluated < self.settled:
            return
        self.last = _resident_mb()
        self.first = self.first or self.last

    def note(self, message: str) -> None:
        pass


def _resident_mb() -> float:
    for line in Path("/proc/self/status").read_text(encoding="latin-1").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")
