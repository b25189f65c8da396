"""One trial from its settings to its record. This is what every launcher runs, wherever it runs."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import torch

from nos_repro.errors import NosError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.claim import Heartbeat
from nos_repro.experiments.files import (
    StoreError,
    json_line,
    remove_scratch,
    write_atomically,
    write_json,
)
from nos_repro.experiments.provenance import provenance, trial_code
from nos_repro.experiments.record import Record, RecordError, Status
from nos_repro.experiments.training import Ending, Run, Stopped, train
from nos_repro.experiments.trial import Trial
from nos_repro.tasks import find_task

log = logging.getLogger(__name__)

Outcome = Literal["recorded", "held"]


def run_trial(
    trial: Trial,
    folder: Path,
    conditions: Conditions,
    *,
    stop: Callable[[], bool] = lambda: False,
    until: int | None = None,
    rungs: Sequence[int] = (),
) -> tuple[Outcome, list[str]]:
    """Trains ``trial`` in ``folder``, from its checkpoint if it has one, and writes its record.

    ``until`` pauses it after that epoch, with a record that says so; the next call with a later
    one goes on from there. ``rungs`` are the epochs that its record is to remember (`Record`).

    Returns what came of it, "held" where another live process has the trial, and what the user
    should know (a checkpoint that was corrupt, say). A trial that another process has ended
    meanwhile is not trained again. `log.txt` keeps what was logged. Whatever
    goes wrong inside the training is a `failed` record with its traceback; StoreError (the disk)
    and Stopped go to the caller, for a record could not be written or must not be.
    """
    heartbeat = Heartbeat(folder)
    if not heartbeat.take():
        return "held", []
    notes: list[str] = []
    try:
        if _ended(trial, folder, until):
            return "recorded", notes
        remove_scratch(folder)
        with _logging_to(folder / "log.txt"):
            record = _attempt(trial, folder, conditions, heartbeat, stop, until, notes)
        record = dataclasses.replace(record, rungs=list(rungs))
        write_json(folder / "record.json", record.to_json())
    finally:
        heartbeat.release()
    return "recorded", notes


def _ended(trial: Trial, folder: Path, until: int | None) -> bool:
    """Whether the trial's record is there, of these settings; an unreadable one is none, and one
    of a pause before ``until`` is not the end."""
    path = folder / "record.json"
    try:
        record = Record.from_json(json.loads(path.read_bytes()), str(path))
    except (OSError, ValueError, RecordError):
        return False
    if record.partial and (until is None or record.epoch < until):
        return False
    return trial.same_settings(record.trial)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Appends what is logged meanwhile to ``path``."""
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _attempt(
    trial: Trial,
    folder: Path,
    conditions: Conditions,
    heartbeat: Heartbeat,
    stop: Callable[[], bool],
    until: int | None,
    notes: list[str],
) -> Record:
    _reset_peak_memory()
    cls = find_task(trial.task)
    code = trial_code(trial.task, trial.task_settings)
    run: Run | None = None
    try:
        run = build(trial, conditions)
        _set_aside_other_settings(trial, folder, notes)
        checkpoints = Checkpoints(folder, conditions.checkpoint_seconds)
        state = checkpoints.load(notes.append)
        if state is not None:
            run.restore(state)
        code = _sign(folder, code, resumed=state is not None)
        heartbeat.steps = run.steps
        write_metrics(folder, run.history)
        if _is_there(run, until):
            return _paused(trial, cls, run, code)
        ending = train(
            run,
            checkpoints,
            on_step=lambda r: heartbeat.beat(r.step, r.history[-1] if r.history else None),
            on_metrics=lambda r: write_metrics(folder, r.history),
            stop=lambda: stop() or _is_there(run, until),
        )
        return _record(trial, cls, ending.status, run, ending, code)
    except Stopped:
        if run is None or not _is_there(run, until):
            raise
        return _paused(trial, cls, run, code)
    except (StoreError, KeyboardInterrupt):
        raise
    except Exception as error:
        log.exception("trial %s failed", trial.id)
        reason = str(error) if isinstance(error, NosError) else f"{type(error).__name__}: {error}"
        ending = Ending("finished", run.step if run is not None else 0, reason)
        return _record(trial, cls, "failed", run, ending, code, traceback.format_exc())


def _is_there(run: Run, until: int | None) -> bool:
    """Whether the run has come to the epoch at which it is to pause."""
    return until is not None and until <= run.epoch < run.training.epochs


def _paused(trial: Trial, cls: Any, run: Run, code: str) -> Record:
    """The record of a pause. The loop hears of it after a step: the checkpoint is one step into
    the next epoch, and the record counts whole epochs, whatever interrupted the run."""
    step = run.epoch * run.data.steps_per_epoch
    ending = Ending("finished", step, f"paused at epoch {run.epoch}")
    return _record(trial, cls, "paused", run, ending, code)


def _set_aside_other_settings(trial: Trial, folder: Path, notes: list[str]) -> None:
    """Keeps a trial off a checkpoint of other settings under its identity: a default that has
    changed since is in no identity (`Trial.id`)."""
    settings, checkpoint = folder / "settings.json", folder / "checkpoint.pt"
    if not settings.exists() or trial.same_settings(json.loads(settings.read_bytes())):
        return
    write_json(settings, trial.to_json())
    if checkpoint.exists():
        checkpoint.replace(folder / "checkpoint.other.pt")
        notes.append(
            f"{checkpoint} is of other settings (a default has changed since); kept as"
            " checkpoint.other.pt, the trial starts over"
        )


def _sign(folder: Path, now: str, *, resumed: bool) -> str:
    """Notes in `code.txt` that the code ``now`` trains the trial; the digest for its record.

    A trial that two versions of the code have trained counts as the older one's: it is stale.
    """
    path = folder / "code.txt"
    before = path.read_text().split() if resumed and path.exists() else []
    digests = list(dict.fromkeys([*before, now]))
    write_atomically(path, "".join(f"{digest}\n" for digest in digests).encode())
    return digests[0] if digests[0] != now else digests[-1]


def write_metrics(folder: Path, history: list[dict[str, float]]) -> None:
    """The curve so far, whole: it depends on the settings alone, so a resumed run repeats it."""
    write_atomically(folder / "metrics.jsonl", "".join(map(json_line, history)).encode())


def _record(
    trial: Trial,
    cls: Any,
    status: Status,
    run: Run | None,
    ending: Ending,
    code: str,
    trace: str = "",
) -> Record:
    seconds = run.seconds if run is not None else 0.0
    examples = ending.step * trial.task_settings.get("batch_size", 1)
    device = str(run.fabric.device) if run is not None else "cpu"
    return Record(
        id=trial.id,
        status=status,
        trial=trial.to_json(),
        metric=cls.metric,
        direction=cls.direction,
        metrics=run.history if run is not None else [],
        steps=ending.step,
        seconds=round(seconds, 3),
        examples_per_second=round(examples / seconds, 1) if seconds else 0.0,
        memory_gb=round(_peak_memory_gb(device), 3),
        code=code,
        provenance=provenance(device),
        reason=ending.reason,
        traceback=trace,
    )


def _reset_peak_memory() -> None:
    """A worker runs many trials; each record is to say its own peak (Linux, where allowed)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_gb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    return 0.0
