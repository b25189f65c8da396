"""One trial from its settings to its record. Every launcher runs this, wherever it runs."""

from __future__ import annotations

import dataclasses
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from nos_repro.errors import ConfigError, LaunchError, no_exit
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import MISFITS, Checkpoints, first_line
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.files import (
    StoreError,
    is_there,
    json_line,
    read_file,
    read_json,
    remove_scratch,
    rename,
    write_atomically,
    write_json,
)
from nos_repro.experiments.heartbeat import Heartbeat
from nos_repro.experiments.optimizer_facts import facts_of
from nos_repro.experiments.provenance import provenance
from nos_repro.experiments.record import Record, RecordError, Status
from nos_repro.experiments.replicas import Group, Replicas
from nos_repro.experiments.tracker import Tracker, TrialFollower
from nos_repro.experiments.training import STATE, UNSAVED, Ending, Run, Stopped, train
from nos_repro.experiments.trial import Trial
from nos_repro.tasks.registry import find_metric

log = logging.getLogger(__name__)

UNKNOWN_CODE = "unknown"
"""Stands for the digest of code that nobody knows."""

TrialOutcome = Literal["recorded", "held"]


def run_trial(
    trial: Trial,
    folder: Path,
    conditions: Conditions,
    *,
    stop: Callable[[], bool] = lambda: False,
    until: int | None = None,
    rungs: Sequence[int] = (),
    tracker: Tracker | None = None,
) -> tuple[TrialOutcome, list[str]]:
    """Trains ``trial`` in ``folder``, from its checkpoint if it has one, and writes its record.

    ``until`` pauses it after that epoch, with a record that says so; the next call with a later
    one continues from there. ``rungs`` are the epochs that its record keeps (`Record`).
    The ``tracker`` is told the curve as it grows, and the record.

    Returns the outcome ("held": another live process has the trial) and what the user should know,
    such as a corrupt checkpoint. A trial that another process has ended by then is not trained
    again. `log.txt` keeps what was logged. If training fails, the record is `failed` and has the
    traceback. StoreError (the disk) and Stopped are raised: a record cannot or must not be written.

    If the ``conditions`` ask for several processes, each of them calls this for the same trials in
    the same order, and all return the same. Raises LaunchError if the processes are not those
    requested, do not arrive, or one dies. After any error but Stopped the process must exit, since
    the others may be waiting for it.
    """
    with conditions.join() as replicas:
        attempt = _Attempt(trial, folder, conditions, replicas, stop, until)
        if not replicas.leads:
            return _follow(attempt), []
        heartbeat = Heartbeat(folder)
        if not heartbeat.take():
            replicas.say("held")
            return "held", []
        try:
            if not has_record(trial, folder, until):
                replicas.say("train")
                remove_scratch(folder, held="checkpoint.pt")
                following = tracker.follow(trial, folder) if tracker else nullcontext()
                with _logging_to(folder / "log.txt", attempt.notes), following as attempt.follower:
                    record = _train_to_record(attempt, heartbeat)
                    record = dataclasses.replace(record, rungs=list(rungs))
                    write_json(folder / "record.json", record.to_json())
                    if attempt.follower is not None:
                        attempt.follower.end(record)
            replicas.say("recorded")
        finally:
            heartbeat.release()
        return "recorded", attempt.notes


def _follow(attempt: _Attempt) -> TrialOutcome:
    """What the other processes do: they train along, and the leader tells them the outcome."""
    group = attempt.replicas
    assert isinstance(group, Group)
    word = group.hear()
    if word == "train":
        with _logging_to(attempt.folder / f"log.{group.rank}.txt", attempt.notes):
            try:
                with no_exit():
                    run = attempt.prepare()
                    train(run, attempt.checkpoints, stop=attempt.stop, until=attempt.until)
                word = group.hear()
            except (Stopped, StoreError, LaunchError):
                raise
            except Exception as error:
                log.exception("trial %s failed in process %d", attempt.trial.id, group.rank)
                word = group.verdict(error)
    return "held" if word == "held" else "recorded"


def has_record(trial: Trial, folder: Path, until: int | None) -> bool:
    """Whether the trial has a sound record with these settings; the record of a pause before
    ``until`` does not count. Raises StoreError if that cannot be found out."""
    path = folder / "record.json"
    data = read_file(path)
    try:
        record = Record.read(data or b"", str(path))
    except RecordError:
        return False
    if record.partial and (until is None or record.epoch < until):
        return False
    return trial.same_settings(record.trial)


class _TrialLog(logging.FileHandler):
    """Notes once that it cannot be written: a trial is not lost with its log."""

    def __init__(self, path: Path, notes: list[str]) -> None:
        super().__init__(path, encoding="utf-8", delay=True, errors="backslashreplace")
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError as error:
            note = f"{self.baseFilename} cannot be written ({error.strerror}); the trial goes on"
            if note not in self.notes:
                self.notes.append(note)


@contextmanager
def _logging_to(path: Path, notes: list[str]) -> Iterator[None]:
    """Appends everything that is logged inside the block to ``path``."""
    handler = _TrialLog(path, notes)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


@dataclass
class _Attempt:
    """This process's part in an attempt at a trial. Only the leader writes to disk."""

    trial: Trial
    folder: Path
    conditions: Conditions
    replicas: Replicas
    stop: Callable[[], bool]
    until: int | None
    notes: list[str] = field(default_factory=list)
    run: Run | None = None
    code: str = ""
    follower: TrialFollower | None = None

    def __post_init__(self) -> None:
        seconds = self.conditions.checkpoint_seconds
        self.checkpoints = Checkpoints(self.folder, seconds, writes=self.replicas.leads)

    def prepare(self) -> Run:
        """The run, restored from its checkpoint if there is one. Raises whatever goes wrong."""
        self.run = build(self.trial, self.conditions, self.replicas)
        state = self._load()
        resumed = state is not None and self._restore(self.run, state)
        if state is not None and not resumed:
            self.run = build(self.trial, self.conditions, self.replicas)
        if self.replicas.leads:
            self.code = _sign(self.folder, self.code, resumed, self.notes)
        self.write_metrics(self.run)
        return self.run

    def _load(self) -> dict[str, Any] | None:
        """The state to go on from. Each process reads the file itself: one that were sent around
        would be in memory several times, and a node has as many processes as GPUs."""
        state: dict[str, Any] | None = None

        def find() -> str:
            nonlocal state
            state = self._find()
            return self.checkpoints.seal() if state is not None and self.replicas.world > 1 else ""

        seal = self.replicas.from_leader(find)
        return self.checkpoints.load_sealed(seal) if seal and not self.replicas.leads else state

    def _find(self) -> dict[str, Any] | None:
        _set_aside_other_settings(self.trial, self.folder, self.notes)
        state = self.checkpoints.load(self.notes.append, STATE)
        if state is None or UNSAVED not in state["optimizer"]:
            return state
        self.notes.append(
            f"{self.folder}: the interrupted trial starts over: {state['optimizer'][UNSAVED]}"
        )
        return None

    def _restore(self, run: Run, state: dict[str, Any]) -> bool:
        """Goes on from a checkpoint. False, in all processes, if it does not fit in one of them:
        then it is set aside, and the run is of no use."""
        why = ""
        try:
            run.restore(state)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except MISFITS as error:
            why = first_line(error)
        (misfit,) = self.replicas.agree(bool(why))
        if misfit and self.replicas.leads:
            self.checkpoints.set_aside(why or "another process cannot use it", self.notes.append)
        return not misfit

    def write_metrics(self, run: Run) -> None:
        """Writes the curve so far, and tells the follower. Raises ConfigError if the metric that
        decides is not measured."""
        _check_measured(self.trial.task, run.history[:1])
        if self.replicas.leads:
            write_metrics(self.folder, run.history)
        if self.follower is not None:
            self.follower.tell(run.history)

    def tell_losses(self, first: int, losses: Sequence[float]) -> None:
        """Tells the follower the losses of the steps from ``first`` on."""
        if self.follower is not None and self.run is not None:
            self.follower.losses(first, losses, self.run.steps)


def _train_to_record(attempt: _Attempt, heartbeat: Heartbeat) -> Record:
    """Trains as the leader; any error in that becomes a `failed` record."""

    def beat(run: Run) -> None:
        if heartbeat.moved:
            raise StoreError(
                f"{attempt.folder} was moved or removed while this trial ran\n"
                "  run the same command again, with --results where it is now: the trial continues"
                " from its last checkpoint there"
            )
        heartbeat.steps = run.steps
        heartbeat.beat(run.step, run.history[-1] if run.history else None)

    _reset_peak_memory()
    trial = attempt.trial
    attempt.code = trial_code(trial.to_json())
    try:
        with no_exit():
            run = attempt.prepare()
            beat(run)
            ending = train(
                run,
                attempt.checkpoints,
                on_step=beat,
                on_metrics=attempt.write_metrics,
                on_losses=attempt.tell_losses,
                stop=attempt.stop,
                until=attempt.until,
            )
    except (Stopped, StoreError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 a trial that breaks is a record that says so
        log.error("trial %s failed\n%s", trial.id, _in_utf8(traceback.format_exc()))
        reason, trace = map(_in_utf8, attempt.replicas.explain(error))
        step = attempt.run.step if attempt.run is not None else 0
        return _record(attempt, "failed", Ending("finished", step, reason), trace)
    return _record(attempt, ending.status, ending)


def _in_utf8(said: str) -> str:
    """File names that are not UTF-8 are escaped: readers would refuse a record with them."""
    return said.encode("utf-8", "backslashreplace").decode()


def _set_aside_other_settings(trial: Trial, folder: Path, notes: list[str]) -> None:
    """Sets a checkpoint aside that has other settings, or nobody knows which. It can have the
    trial's identity, since settings at their default are not in it (`Trial.id`) and a default may
    have changed."""
    settings, checkpoint = folder / "settings.json", folder / "checkpoint.pt"
    data = read_file(settings)
    if data is None:
        return
    why = "has other settings (a default has changed since)"
    try:
        if trial.same_settings(read_json(data)):
            return
    except (ValueError, TypeError, AttributeError):
        why = f"has unknown settings ({settings} is damaged; kept as settings.damaged.json)"
        write_atomically(folder / "settings.damaged.json", data)
    if is_there(checkpoint):
        rename(checkpoint, folder / "checkpoint.other.pt")
        notes.append(f"{checkpoint} {why}; kept as checkpoint.other.pt, the trial starts over")
    write_json(settings, trial.to_json())


def _sign(folder: Path, now: str, resumed: bool, notes: list[str]) -> str:
    """Notes in `code.txt` that the code ``now`` trains the trial; returns its record's digest.

    A trial that two versions of the code have trained counts as the older one's: it is stale. So
    does one that was trained by nobody knows which, since `code.txt` is damaged.
    """
    path = folder / "code.txt"
    data = read_file(path) if resumed else None
    before = [] if data is None else data.decode("ascii", "replace").split()
    if data is not None and not (before and all(word.isalnum() for word in before)):
        write_atomically(folder / "code.damaged.txt", data)
        notes.append(
            f"{path} is damaged; kept as code.damaged.txt, the trial goes on, and its number counts"
            " as stale until `verify` repeats it"
        )
        before = [UNKNOWN_CODE]
    digests = list(dict.fromkeys([*before, now]))
    write_atomically(path, "".join(f"{digest}\n" for digest in digests).encode())
    return digests[0] if digests[0] != now else digests[-1]


def _check_measured(task: str, history: Sequence[dict[str, float]]) -> None:
    """Runs after the first evaluation: what `Task.metrics` returns is not known earlier."""
    name = find_metric(task).name
    for point in history:
        found = [key.removeprefix("val_") for key in point if key.startswith("val_")]
        if found and name not in found:
            raise ConfigError(
                f"task {task}: measures declares '{name}', and metrics returned {' '.join(found)}"
            )


def write_metrics(folder: Path, history: list[dict[str, float]]) -> None:
    """Writes the whole curve so far. It depends only on the settings: a resumed run repeats it."""
    write_atomically(folder / "metrics.jsonl", "".join(map(json_line, history)).encode())


def _record(attempt: _Attempt, status: Status, ending: Ending, trace: str = "") -> Record:
    trial, run, replicas = attempt.trial, attempt.run, attempt.replicas
    metric = find_metric(trial.task)
    seconds = run.seconds if run is not None else 0.0
    examples = ending.step * trial.task_settings.get("batch_size", 1)
    device = str(run.fabric.device) if run is not None else "cpu"
    together: dict[str, object] = {"processes": replicas.world} if replicas.world > 1 else {}
    if run is not None:
        together["device_settings"] = run.device_settings
        facts = facts_of(trial.optimizer, trial.options, run.bare_optimizer, run.starts_over)
        together.update(facts)
    return Record(
        id=trial.id,
        status=status,
        trial=trial.to_json(),
        metric=metric.name,
        direction=metric.direction,
        metrics=run.history if run is not None else [],
        steps=ending.step,
        seconds=round(seconds, 3),
        examples_per_second=round(examples / seconds, 1) if seconds else 0.0,
        memory_gb=round(_peak_memory_gb(device), 3),
        code=attempt.code,
        provenance={**provenance(device), **together},
        reason=ending.reason,
        traceback=trace,
    )


def _reset_peak_memory() -> None:
    """A worker runs many trials; each record should have its own peak (Linux, where allowed)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="latin-1")


def _peak_memory_gb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text(encoding="latin-1").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    return 0.0
