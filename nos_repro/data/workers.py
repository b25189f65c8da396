"""Work that other processes do in advance, in order: torch's DataLoader, made well-behaved.

In addition to what it does by itself: a worker ends with its parent, and when it is no longer
needed; signals meant for the trial (a cluster sends them to every process) are left to the trial;
the parent's random numbers stay untouched; a user's mistake arrives as the original error; and a
result always arrives, also where no shared memory is left for it.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from nos_repro.errors import NosError

log = logging.getLogger(__name__)

IGNORED = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Sent to all by a cluster or a terminal: a worker goes on, so that the trial can be saved."""

WATCH_SECONDS = 1.0

J = TypeVar("J")
R = TypeVar("R")


def in_order(
    work: Callable[[J], R], jobs: Iterable[J], workers: int, ahead: int = 2
) -> Iterator[R]:
    """`work(job)` for every job, in order, in that many processes; 0: in this one, on demand.

    ``ahead`` jobs per worker are handed out in advance. What `work` raises is raised here; a
    NosError unchanged.
    """
    if workers == 0:
        yield from map(work, jobs)
        return
    linux = sys.platform == "linux"
    loader: DataLoader[Any] = DataLoader(
        _Work(work),
        sampler=jobs,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=ahead,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if linux else None,
        generator=torch.Generator(),  # by default the workers' seeds come from the trial's own
    )
    with _signals_held(), warnings.catch_warnings():
        # Python 3.12 warns about forks beside threads; a worker takes no lock that they may hold
        warnings.simplefilter("ignore", DeprecationWarning)
        results = iter(loader)
    for result in results:
        if isinstance(result, NosError):
            raise result
        if result.obstacle:
            _say_once(result.obstacle)
        yield pickle.loads(result.pickled)


class _Result(NamedTuple):
    """A pickled result. Its tensors are in shared memory, unless there was an ``obstacle``."""

    pickled: bytes
    obstacle: str = ""


class _Work(Dataset[Any]):
    """A DataLoader's data set whose items are results, and whose indices are jobs.

    The results are pickled here, as the DataLoader would do in a thread of its own: what fails
    there is printed, and the item is waited for without end.
    """

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __getitem__(self, job: Any) -> Any:
        try:
            return _pickled(self.work(job))
        except NosError as error:
            return error


def _pickled(result: Any) -> _Result:
    """Shares memory if it can. Torch raises RuntimeErrors if none is left; an OSError is the socket
    by which processes share: its path is too long, or too many files are open."""
    try:
        return _Result(bytes(ForkingPickler.dumps(result)))
    except (RuntimeError, OSError) as error:
        reason = str(error).rpartition(": ")[2]  # without the name of the file, which is random
        return _Result(pickle.dumps(result), obstacle=reason)


@functools.cache
def _say_once(obstacle: str) -> None:
    log.warning(
        "batches prepared by other processes come through pipes, which is slower than shared memory"
        " (%s); /dev/shm needs about a gigabyte (docker run --shm-size=1g), TMPDIR a short path",
        obstacle,
    )


def _as_it_is(result: Any) -> Any:
    return result


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait while workers start; otherwise the parent's handlers would run in them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*IGNORED, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(number: int) -> None:
    """Runs first in each worker. SIGTERM stays blocked: a thread reads who sent it."""
    if sys.platform != "linux":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    for word in IGNORED:
        signal.signal(word, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_with_parent(parent: int) -> None:
    """Ends this worker when its parent says so or is gone; it ignores SIGTERM from others."""
    while os.getppid() == parent:
        word = signal.sigtimedwait({signal.SIGTERM}, WATCH_SECONDS)
        if word is not None and word.si_pid == parent:
            break
    os._exit(0)
