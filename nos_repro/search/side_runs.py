"""Children beside the search: baselines, the best rules by fresh seeds, what the probes refused.

They stand in a log of their own, `named.jsonl`, and teach the controller nothing. What has its
line there is not trained again.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from nos_repro.errors import LaunchError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import StoreError
from nos_repro.launch.base import MAX_LOST, Launcher
from nos_repro.search.child import Child, Evaluation
from nos_repro.search.hold import hold
from nos_repro.search.job import EvaluationJob, answer_of
from nos_repro.search.log import Event, Log, LogError
from nos_repro.search.session import session

log = logging.getLogger(__name__)

Purpose = Literal["baseline", "confirm", "refused"]


@dataclass(frozen=True)
class SideRun:
    """A child to train: why, by which optimizer, from which seed; ``test``: on test images too."""

    purpose: Purpose
    name: str
    optimizer: str
    seed: int = 0
    test: bool = False

    @property
    def key(self) -> str:
        return f"{self.purpose} {self.optimizer} {self.seed}"


class Note(Protocol):
    """Where to say how far it is."""

    def note(self, message: str) -> None: ...


def read_side_runs(
    folder: Path, note: Callable[[str], None] | None = None
) -> list[tuple[SideRun, Evaluation]]:
    """What stands in the log, in its order; ``note`` as in `Log.read`. Raises LogError."""
    found = []
    for event in Log(folder / "named.jsonl").read(note=note):
        if event["event"] != "named":
            continue
        named = SideRun(event["purpose"], event["name"], event["optimizer"], event["seed"])
        try:
            found.append((named, Evaluation.from_json(event["evaluation"])))
        except (TypeError, ValueError) as error:
            where = f"{folder / 'named.jsonl'}: {named.key}"
            raise LogError(f"{where}: no sound evaluation ({error})") from None
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

    Raises ConfigError where another process does so, LaunchError where a worker vanishes again
    and again, StoreError where the disk refuses.
    """
    asked = list(wanted)
    if _missing(asked, folder):
        with hold(folder / "answers"):
            _evaluate(asked, child, folder, launcher, conditions, display)


def _missing(wanted: list[SideRun], folder: Path) -> dict[str, SideRun]:
    """What has no line in the log, each once."""
    done = {named.key for named, _ in read_side_runs(folder, log.warning)}
    return {named.key: named for named in wanted if named.key not in done}


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
    queue = deque(_job(named, child, folder, conditions) for named in todo.values())
    lost: Counter[str] = Counter()
    ended = 0
    if todo:
        children.append([session(child, launcher.free)])

    def take(job: EvaluationJob, answer: Evaluation) -> None:
        nonlocal ended
        named = todo[job.key]
        children.append([_event(named, answer)])
        children.sync()
        job.forget()
        ended += 1
        said = f"{answer.reward:.4f} at rate {answer.lr:g}" if answer.lr else answer.reason
        display.note(f"{named.purpose} {ended}/{len(todo)}: {named.name}: {said}")

    for job in list(queue):  # a cluster went on when the process that asked was gone
        if (left := job.answer()) is not None:
            queue.remove(job)
            take(job, left)
    while ended < len(todo):
        while queue and launcher.free:
            launcher.submit(queue.popleft())
        for report in launcher.wait(1.0):
            if report.outcome == "blocked":
                raise StoreError(report.message)
            job, answer = report.job, answer_of(report)
            if answer is None:
                lost[job.key] += 1
                if lost[job.key] >= MAX_LOST:
                    raise LaunchError(f"{job.label}: its worker vanished {MAX_LOST} times")
                queue.append(job)
                continue
            take(job, answer)


def _job(named: SideRun, child: Child, folder: Path, conditions: Conditions) -> EvaluationJob:
    """Its answer's name is the same in every process: a cluster may still be at work on it."""
    name = f"{named.purpose}-{hashlib.sha256(named.key.encode()).hexdigest()[:12]}"
    return EvaluationJob(
        name,
        named.key,
        named.optimizer,
        child,
        conditions,
        folder / "answers",
        named.seed,
        named.test,
    )


def _event(named: SideRun, found: Evaluation) -> Event:
    return {
        "event": "named",
        "purpose": named.purpose,
        "name": named.name,
        "optimizer": named.optimizer,
        "seed": named.seed,
        "evaluation": found.to_json(),
    }
