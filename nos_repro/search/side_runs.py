"""Children outside the search: baselines, the best rules with fresh seeds, what the probes refused.

Their results are in a separate log, `named.jsonl`, and the controller does not learn from them.
A child that has a line there is not trained again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from nos_repro.errors import LaunchError
from nos_repro.launch.base import Launcher
from nos_repro.launch.driver import MAX_LOST, drive
from nos_repro.search.child import Child, Evaluation
from nos_repro.search.folder import hold
from nos_repro.search.job import EvaluationJob, evaluation_of
from nos_repro.search.log import Event, Log, LogError
from nos_repro.search.session import session

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions

log = logging.getLogger(__name__)

Purpose = Literal["baseline", "confirm", "refused"]


@dataclass(frozen=True)
class SideRun:
    """A child to train: why, with which optimizer and seed; ``test``: measure test metrics too."""

    purpose: Purpose
    name: str
    optimizer: str
    seed: int = 0
    test: bool = False

    @property
    def key(self) -> str:
        return f"{self.purpose} {self.optimizer} {self.seed}"


class Note(Protocol):
    """Where progress messages go."""

    def note(self, message: str) -> None: ...


def read_side_runs(
    folder: Path, note: Callable[[str], None] | None = None
) -> list[tuple[SideRun, Evaluation]]:
    """What the log holds, in order; ``note`` as in `Log.read`. Raises LogError."""
    found = []
    for event in Log(folder / "named.jsonl").read(note=note):
        if event["event"] != "named":
            continue
        side_run = SideRun(event["purpose"], event["name"], event["optimizer"], event["seed"])
        try:
            found.append((side_run, Evaluation.from_json(event["evaluation"])))
        except (TypeError, ValueError) as error:
            where = f"{folder / 'named.jsonl'}: {side_run.key}"
            raise LogError(f"{where}: not a valid evaluation ({error})") from None
    return found


def evaluate_named(
    wanted: Iterable[SideRun],
    child: Child,
    folder: Path,
    launcher: Launcher[EvaluationJob],
    conditions: Conditions,
    display: Note,
) -> None:
    """Trains what has no line in the log yet. The launcher stays open.

    Raises ConfigError if another process is doing so, LaunchError if a worker vanishes again and
    again, StoreError if the disk fails.
    """
    asked = list(wanted)
    if _missing(asked, folder):
        with hold(folder / "answers"):
            _evaluate(asked, child, folder, launcher, conditions, display)


def _missing(wanted: list[SideRun], folder: Path) -> dict[str, SideRun]:
    """What has no line in the log, each once."""
    done = {side_run.key for side_run, _ in read_side_runs(folder, log.warning)}
    return {side_run.key: side_run for side_run in wanted if side_run.key not in done}


def _evaluate(
    wanted: list[SideRun],
    child: Child,
    folder: Path,
    launcher: Launcher[EvaluationJob],
    conditions: Conditions,
    display: Note,
) -> None:
    children = Log(folder / "named.jsonl")
    torn = children.open()
    if torn is not None:
        display.note(torn)
    todo = _missing(wanted, folder)
    queue = [_job(side_run, child, folder, conditions) for side_run in todo.values()]
    ended = 0
    if todo:
        children.append([session(child, launcher.free)])

    def take(job: EvaluationJob, answer: Evaluation) -> None:
        nonlocal ended
        side_run = todo[job.key]
        children.append([_event(side_run, answer)])
        children.sync()
        job.forget()
        ended += 1
        said = f"{answer.reward:.4f} at rate {answer.lr:g}" if answer.lr else answer.reason
        display.note(f"{side_run.purpose} {ended}/{len(todo)}: {side_run.name}: {said}")

    for job in list(queue):  # a cluster went on after the process that asked had died
        if (left := job.answer()) is not None:
            queue.remove(job)
            take(job, left)
    remaining = iter(queue)
    for report in drive(lambda: remaining, launcher, display.note):
        answer = evaluation_of(report)
        if answer is None:
            raise LaunchError(f"{report.job.label}: its worker vanished {MAX_LOST} times")
        take(report.job, answer)


def _job(side_run: SideRun, child: Child, folder: Path, conditions: Conditions) -> EvaluationJob:
    """The job of a side run. Its name is the same in every process, since a cluster may still be at
    work on it."""
    name = f"{side_run.purpose}-{hashlib.sha256(side_run.key.encode()).hexdigest()[:12]}"
    return EvaluationJob(
        name,
        side_run.key,
        side_run.optimizer,
        child,
        conditions,
        folder / "answers",
        side_run.seed,
        side_run.test,
    )


def _event(side_run: SideRun, found: Evaluation) -> Event:
    return {
        "event": "named",
        "purpose": side_run.purpose,
        "name": side_run.name,
        "optimizer": side_run.optimizer,
        "seed": side_run.seed,
        "evaluation": found.to_json(),
    }
