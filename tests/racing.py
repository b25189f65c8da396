"""Processes that do the same thing at the same moment, round after round."""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nos_repro.launch.local import worker_context

Act = Callable[[Path, int, int], Any]


def race(act: Act, folder: Path, *, count: int, rounds: int) -> list[list[Any]]:
    """What ``act(folder, process, round)``, a function of a module, returns in each process, by
    rounds. No process begins a round before all have ended the one before."""
    context = worker_context()  # a process has one fork server, and ours ignores Ctrl-C
    barrier = context.Barrier(count)
    ends = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_run, args=(act, folder, number, rounds, barrier, end[1]))
        for number, end in enumerate(ends)
    ]
    for process in processes:
        process.start()
    for _, sending in ends:
        sending.close()
    found = [receiving.recv() for receiving, _ in ends]
    for process in processes:
        process.join()
    return [list(each) for each in zip(*found, strict=True)]


def _run(
    act: Act,
    folder: Path,
    number: int,
    rounds: int,
    barrier: threading.Barrier,
    answers: Connection,
) -> None:
    said = []
    for turn in range(rounds):
        barrier.wait(60)
        said.append(act(folder, number, turn))
    answers.send(said)
