"""Jobs on this machine: worker processes with pinned threads, or this process itself."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

import torch

from nos_repro.data.cores import available_cores, core_numbers
from nos_repro.errors import LaunchError
from nos_repro.launch.base import J, Report
from nos_repro.launch.watch import leave_with_parent
from nos_repro.launch.work import keep_freed_memory, run_job

SAVE_SECONDS = 60.0
"""Time that a stopping worker has for its step and for saving, before it is killed."""

END_SECONDS = 60.0
"""Time that a killed worker has to be gone."""

START_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""How often the start of a process is tried, and the seconds after each failure."""

LONGEST_FOLDER = 70
"""A socket's path has at most 107 bytes; multiprocessing adds two names to the folder's."""
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")

_stopping = threading.Event()
T = TypeVar("T")


class InProcess(Generic[J]):
    """Runs one job at a time in this process: for debugging, and for a single short trial.

    No other process watches it, so a time limit holds only if the job itself checks the clock.
    """

    word = "running"

    def __init__(self) -> None:
        self._job: J | None = None

    @property
    def free(self) -> int:
        return 1 if self._job is None else 0

    def submit(self, job: J) -> None:
        self._job = job

    def wait(self, seconds: float) -> list[Report[J]]:
        job, self._job = self._job, None
        return [] if job is None else [run_job(job, _stopping.is_set)]

    def close(self) -> list[Report[J]]:
        job, self._job = self._job, None
        return [] if job is None else [Report(job, "stopped")]


@dataclass
class _Slot(Generic[J]):
    """A worker process's slot: its cores and device, what it runs, and since when."""

    number: int
    cores: list[int]
    pool: ProcessPoolExecutor
    job: J | None = None
    future: Future[Report[J]] | None = None
    started: float = 0.0
    overran: bool = False

    @property
    def seconds_left(self) -> float:
        """Seconds until its job's time limit."""
        if self.job is None or self.job.limit_seconds is None or self.overran:
            return float("inf")
        return self.started + self.job.limit_seconds - time.monotonic()


class LocalWorkers(Generic[J]):
    """``workers`` processes with ``threads`` pinned cores each, running one job at a time.

    Each slot is a pool of one, so that a killed worker takes only its own job with it.
    With CUDA, slot i uses device i modulo the number of devices, and its share of all cores.
    """

    word = "running"

    def __init__(self, workers: int, threads: int = 1) -> None:
        self.threads = threads
        self._context = worker_context()
        self._awaited = False
        self._closing = False
        self._slots: list[_Slot[J]] = [
            _Slot(number, own, self._pool(number, own))
            for number, own in enumerate(core_shares(workers, threads))
        ]

    def _pool(self, number: int, cores: list[int]) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1,
            mp_context=self._context,
            initializer=start_worker,
            initargs=(number, cores, self.threads),
        )

    @property
    def free(self) -> int:
        return sum(slot.job is None for slot in self._slots)

    def submit(self, job: J) -> None:
        if not self._awaited:
            await_workers(self._context)
            self._awaited = True
        slot = next(slot for slot in self._slots if slot.job is None)

        def start() -> Future[Report[J]]:
            try:
                return slot.pool.submit(_run, job)
            except Exception:
                slot.pool.shutdown(wait=False)
                slot.pool = self._pool(slot.number, slot.cores)
                raise

        slot.future = _persistently(start)
        slot.job, slot.started, slot.overran = job, time.monotonic(), False

    def wait(self, seconds: float) -> list[Report[J]]:
        running = [slot.future for slot in self._slots if slot.future is not None]
        left = min((slot.seconds_left for slot in self._slots), default=seconds)
        wait(running, timeout=max(0.0, min(seconds, left)), return_when=FIRST_COMPLETED)
        for slot in self._slots:
            if slot.seconds_left <= 0 and slot.future is not None and not slot.future.done():
                slot.overran = True
                _kill([slot])
                wait([slot.future], timeout=END_SECONDS)
        return [
            self._collect(slot)
            for slot in self._slots
            if slot.future is not None and slot.future.done()
        ]

    def _collect(self, slot: _Slot[J]) -> Report[J]:
        assert slot.future is not None
        assert slot.job is not None
        job, future = slot.job, slot.future
        slot.job = slot.future = None
        try:
            report = future.result()
        except BrokenProcessPool:
            report = Report(job, "lost", "the worker process vanished (killed, or out of memory)")
            if slot.overran:
                report = Report(job, "overran", f"killed after {job.limit_seconds:g} s")
        if report.outcome == "stopped" and not self._closing:
            report = Report(job, "lost", "the worker was told to stop from outside")
        # a fresh process, free of whatever broke it
        if report.outcome in ("lost", "overran") and not self._closing:
            slot.pool.shutdown(wait=False)
            slot.pool = self._pool(slot.number, slot.cores)
        return report

    def close(self) -> list[Report[J]]:
        """A second Ctrl-C kills the workers at once: their trials continue from checkpoints."""
        self._closing = True
        busy = [slot for slot in self._slots if slot.job is not None]
        with answering_ctrl_c(lambda: _kill(busy)):
            for process in _processes(busy):
                process.terminate()
            wait([slot.future for slot in busy if slot.future is not None], timeout=SAVE_SECONDS)
            hanging = [slot for slot in busy if slot.future is None or not slot.future.done()]
            _kill(hanging)
            wait([slot.future for slot in hanging if slot.future is not None], timeout=END_SECONDS)
            done = [slot for slot in busy if slot.future is not None and slot.future.done()]
            reports = [self._collect(slot) for slot in done]
            _shut_down([slot.pool for slot in self._slots if slot.future is None])
            for slot in self._slots:
                slot.pool.shutdown(wait=False, cancel_futures=True)
        return reports


def core_shares(workers: int, threads: int) -> list[list[int]]:
    """The numbers of the cores that each worker is pinned to; [] if there are too few.

    On a CPU, as many as its threads. Beside a GPU, an equal part of all: processes that decode its
    images run there, too. Under a quota, the cores begin anywhere, or all containers of a machine
    would choose the same ones.
    """
    cores, ours = core_numbers(), available_cores()
    if ours < len(cores):
        first = random.SystemRandom().randrange(len(cores))
        cores = (cores[first:] + cores[:first])[:ours]
    each = max(threads, ours // workers) if torch.cuda.is_available() else threads
    places = range(0, workers * each, each)
    return [cores[n : n + each] if n + each <= len(cores) else [] for n in places]


def _shut_down(pools: Sequence[ProcessPoolExecutor]) -> None:
    """Returns when their processes and threads have ended, so that the interpreter's exit, which
    asks them to end once more, does not meet them half-closed."""
    with ThreadPoolExecutor(max(1, len(pools))) as threads:
        list(threads.map(lambda pool: pool.shutdown(cancel_futures=True), pools))


def _processes(slots: Sequence[_Slot[J]]) -> list[BaseProcess]:
    return [process for slot in slots for process in (slot.pool._processes or {}).values()]


def _kill(slots: Sequence[_Slot[J]]) -> None:
    for process in _processes(slots):
        process.kill()


@contextlib.contextmanager
def answering_ctrl_c(answer: Callable[[], None]) -> Iterator[None]:
    """Calls ``answer`` at a Ctrl-C or SIGTERM in the block, and lets the block go on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears of signals
        return
    words = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(word, lambda *_: answer()) for word in words]
    try:
        yield
    finally:
        for word, handler in zip(words, before, strict=True):
            signal.signal(word, handler)


def worker_context() -> BaseContext:
    """A fork server that has imported torch once, so that a worker starts in milliseconds.

    It ignores SIGINT, and workers inherit that: the parent handles Ctrl-C.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "nos_repro.launch.work"])
    _ensure_server()
    return context


def _ensure_server() -> None:
    """Starts the fork server if there is none (any more)."""
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return
    _shorten_socket_paths()
    answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, answer)


def _shorten_socket_paths() -> None:
    """If the path of the temporary folder is too long for sockets, has multiprocessing put its own
    elsewhere, in workers too. Raises LaunchError if that cannot be."""
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) <= LONGEST_FOLDER:
        return
    for folder in SHORT_FOLDERS:
        tempfile.tempdir = folder
        try:
            multiprocessing.util.get_temp_dir()  # from now on it is this one
            return
        except OSError:
            continue
        finally:
            tempfile.tempdir = usual
    raise LaunchError(
        f"the path of TMPDIR is longer than {LONGEST_FOLDER} bytes, too long for sockets, and none"
        f" of {', '.join(SHORT_FOLDERS)} can be written: set a shorter one"
    )


def _persistently(start: Callable[[], T]) -> T:
    """What ``start`` returns, which starts a process. Raises LaunchError if that fails again and
    again: once, the fork server may have been killed, or a pool broken with its worker."""
    for pause in START_PAUSES:
        try:
            _ensure_server()
            return start()
        except (EOFError, OSError, BrokenProcessPool) as error:
            reason = f"{type(error).__name__}: {error}"
            time.sleep(pause)  # a process that was killed takes a moment to be gone
    raise LaunchError(f"worker processes cannot be started: {reason}")


def await_workers(context: BaseContext) -> None:
    """Returns when workers can start. An interrupt here leaves nothing half-started."""

    def start() -> BaseProcess:
        process: BaseProcess = context.Process(target=int, daemon=True)  # type: ignore[attr-defined]
        process.start()
        return process

    _persistently(start).join()


def start_worker(number: int, cores: list[int], threads: int) -> None:
    """Runs once in each worker: pinning, allocator, signals, and the watch on the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _stopping.set())
    if cores:
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    keep_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    threading.Thread(target=leave_with_parent, daemon=True).start()


def _run(job: J) -> Report[J]:
    return run_job(job, _stopping.is_set)
