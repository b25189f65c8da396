"""One run: a learner writes rules until the last 100 have a mean reward of 0.9 of the optimum."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from nos_repro.experiments.files import json_line, write_atomically
from nos_repro.experiments.provenance import provenance
from nos_repro.search.algorithms import ALGORITHMS, Algorithm
from nos_repro.search.algorithms.base import ControllerSettings
from nos_repro.search.efficiency.runs import (
    BATCH,
    BLOCK,
    CAP,
    PROTOCOL,
    SHARE,
    STEPS,
    WINDOW,
    EfficiencyRun,
    RunRecord,
    all_runs,
    of,
    read_records,
)
from nos_repro.search.efficiency.task import OPTIMUM, SPACE, reward
from nos_repro.search.sample import Sample


def make_learner(run: EfficiencyRun) -> Algorithm:
    """A run's learner; a seed gives every controller the same first weights."""
    kind = ALGORITHMS.find(run.algorithm)
    settings = {}
    if run.step is not None:
        settings = {key: PROTOCOL[key] for key in ("batch", "entropy", "baseline_decay")}
        settings[STEPS[run.algorithm][0]] = run.step
    controller = ControllerSettings(hidden=int(PROTOCOL["hidden"]))
    return kind(SPACE, kind.Settings(**settings), seed=run.seed, controller=controller)


def train(run: EfficiencyRun, cap: int = CAP) -> RunRecord:
    """Samples and learns until the target or the cap; returns the record.

    ``curve`` holds the mean reward of every 50 samples, the last one of those left over.
    ``seconds`` is processor time, since others may be using the machine.
    """
    learner = make_learner(run)
    rewards: list[float] = []
    window: deque[float] = deque(maxlen=WINDOW)
    arrived, updates = False, 0
    start = time.process_time()
    while not arrived and len(rewards) < cap:
        for _ in range(BATCH):
            number = len(rewards)
            sample = Sample(number, updates, *learner.propose(number, {}))
            rewards.append(reward(tuple(sample.tokens)))
            updates += learner.learn(sample, rewards[-1]) is not None
        window.extend(rewards[-BATCH:])
        arrived = len(window) == WINDOW and math.fsum(window) >= SHARE * OPTIMUM * WINDOW - 1e-9
    return {
        **asdict(run),
        "needed": len(rewards) if arrived else None,
        "last": round(fmean(window), 4),
        "best": max(rewards),
        "curve": [
            round(fmean(rewards[at : at + BLOCK]), 4) for at in range(0, len(rewards), BLOCK)
        ],
        "seconds": round(time.process_time() - start, 2),
        "protocol": PROTOCOL,
        "provenance": provenance("cpu"),
    }


def complete(path: Path) -> list[RunRecord]:
    """Trains every run that has no record in the file, one by one; returns all records.

    The file is complete after every run: a process that is killed loses only its current run.
    """
    records = read_records(path)
    for run in all_runs(records):
        if not of(records, **asdict(run)):
            records.append(train(run))
            write_atomically(path, "".join(map(json_line, records)).encode())
            print(_progress(records[-1]), flush=True)
    return records


def _progress(record: RunRecord) -> str:
    step = "" if record["step"] is None else f" at {record['step']:g}"
    reached = f"{record['needed']} samples" if record["needed"] else f"{record['last']} at the cap"
    name = f"{record['part']}: {record['algorithm']}{step}, seed {record['seed']}"
    return f"{name}: {reached}, {record['seconds']} s"
