"""`verify`: whether the code of today still makes the numbers that older code made.

A record is stale when the code that decides its numbers has changed. Most changes mean nothing:
a renamed variable, a faster path. Training the trial up to its first evaluation again, and
comparing that line to the last bit, settles it at a small share of the cost. (A change that only
later epochs would feel goes unseen: `--whole` trains everything.) Floating point differs between
machines, so a record of another machine mostly cannot be verified; it stays stale.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from nos_repro.errors import LaunchError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import is_stale, outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.training import train
from nos_repro.experiments.trial import Trial
from nos_repro.launch.local import await_workers, start_worker, worker_context

log = logging.getLogger(__name__)


def verify(
    study: Study,
    store: Store,
    conditions: Conditions,
    workers: int,
    *,
    threads: int = 1,
    whole: bool = False,
) -> Iterator[tuple[Trial, bool]]:
    """Trains every stale record's trial again and says, as they end, which agree.

    A record that agrees is signed with today's code; one that does not is left as it is.
    """
    trials = {trial.id: trial for row in outcomes(study, store) for trial in row.trials}
    stale = []
    for trial in trials.values():
        record = store.record(trial)
        if record is not None and record.status != "failed" and is_stale(record):
            stale.append((trial, record))
    if not stale:
        return
    context = worker_context()
    await_workers(context)
    pool = ProcessPoolExecutor(
        max(1, workers),
        mp_context=context,
        initializer=start_worker,
        initargs=(0, [], threads),
    )
    try:
        asked = {pool.submit(agrees, t, r, conditions, whole): (t, r) for t, r in stale}
        for future in as_completed(asked):
            trial, record = asked[future]
            agreed = _result(future, trial)
            if agreed:
                store.replace(_signed(trial, record))
            yield trial, agreed
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _result(future: Future[bool], trial: Trial) -> bool:
    """A trial that today's code cannot even train does not agree."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise LaunchError("a worker process vanished (killed, or out of memory)") from None
    except Exception:
        log.exception("trial %s cannot be trained again", trial.id)
        return False


def agrees(trial: Trial, record: Record, conditions: Conditions, whole: bool) -> bool:
    """Whether training ``trial`` again repeats the record: its first evaluation, or everything
    (of a trial that a rung has stopped, up to there)."""
    run = build(trial, conditions)
    first = min(trial.training.evaluate_every, trial.training.epochs)
    end = int(record.epoch) if record.partial else None
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(Path(scratch), every_seconds=math.inf)
        ending = train(run, checkpoints, until=end if whole else first)
    if ending.status == "paused" and not whole:
        return run.history == record.metrics[:1]
    if ending.status != "paused" and (ending.status, ending.step) != (record.status, record.steps):
        return False
    measured = {line["epoch"]: line for line in run.history}
    return all(measured.get(line["epoch"]) == line for line in record.metrics)


def _signed(trial: Trial, record: Record) -> Record:
    now = trial_code(trial.to_json())
    return dataclasses.replace(record, code=now, verified=[*record.verified, record.code])
