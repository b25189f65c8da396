"""Children outside the search: baselines, the best rules with fresh seeds, what the probes refused.

Their results are in a separate log, `named.jsonl`, and the controller does not learn from them.
A child that has a line there is not trained again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from nos_repro.errors import LaunchError, NosError
from nos_repro.launch.base import Launcher
from nos_repro.launch.driver import MAX_LOST, drive
from nos_repro.search.child import Child, Evaluation
from nos_repro.search.failure import child_error, keep_traceback
from nos_repro.search.folder import hold
from nos_repro.search.job import EvaluationJob, evaluation_of
from nos_repro.search.log import Event, Log, LogError
from nos_repro.search.session import side_session

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions

log = logging.getLogger(__name__)

Purpose = Literal["baseline", "cheap", "race", "confirm", "crossed", "refused"]


@dataclass(frozen=True)
class SideRun:
    """A child to train: why, with which optimizer and seed; ``test``: measure test metrics too.

    ``where``: the search in whose environment it trains, if that is another one. ``rates``: those
    that it sweeps, if they are not the search's.
    """

    purpose: Purpose
    name: str
    optimizer: str
    seed: int = 0
    test: bool = False
    where: str = ""
    rates: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        key = f"{self.purpose} {self.optimizer} {self.seed}"
        key += f" in {self.where}" if self.where else ""
        return f"{key} at {', '.join(map(str, self.rates))}" if self.rates else key

    @property
    def job_name(self) -> str:
        """The name of its job, the same in every process: a cluster may still be at work on it."""
        return f"{self.purpose}-{hashlib.sha256(self.key.encode()).hexdigest()[:12]}"


class SideRunDisplay(Protocol):
    """Where progress is shown."""

    def note(self, message: str) -> None: ...

    def update_side_runs(self, what: str, done: int, total: int, running: Sequence[str]) -> None:
        """``done`` of ``total`` children of this kind have ended; ``running`` are in training."""


def read_side_runs(
    folder: Path, note: Callable[[str], None] | None = None
) -> list[tuple[SideRun, Evaluation]]:
    """What the log holds, in order, of a child that was trained again the last result; ``note`` as
    in `Log.read`. Raises LogError."""
    found: dict[str, tuple[SideRun, Evaluation]] = {}
    for event in Log(folder / "named.jsonl").read(note=note):
        if event["event"] != "named":
            continue
        side_run = SideRun(
            event["purpose"],
            event["name"],
            event["optimizer"],
            event["seed"],
            where=event.get("where", ""),
            rates=tuple(event.get("rates", ())),
        )
        try:
            found[side_run.key] = (side_run, Evaluation.from_json(event["evaluation"]))
        except (TypeError, ValueError) as error:
            where = f"{folder / 'named.jsonl'}: {side_run.key}"
            raise LogError(f"{where}: not a valid evaluation ({error})") from None
    return list(found.values())


def without_dropped(
    runs: Sequence[tuple[SideRun, Evaluation]], baselines: Mapping[str, str]
) -> list[tuple[SideRun, Evaluation]]:
    """The runs without those of baselines that the search's file had once and has no more."""
    dropped = {run.optimizer for run, _ in runs if run.purpose == "baseline"} - {
        *baselines.values()
    }
    return [pair for pair in runs if pair[0].optimizer not in dropped]


def race_order(folder: Path) -> list[str]:
    """The normal forms of the rules that the last race told apart, the winner first; [] before any
    race is over. Raises LogError."""
    order: list[str] = []
    for event in Log(folder / "named.jsonl").read(note=lambda _: None):
        if event["event"] == "raced":
            order = list(map(str, event["order"]))
    return order


def log_race(folder: Path, order: Sequence[str]) -> None:
    """Logs the result of a race, unless the log ends with it. Raises ConfigError if another process
    is at work on such children, StoreError if the disk fails."""
    if race_order(folder) == list(order):
        return
    with hold(folder / "answers"):
        children = Log(folder / "named.jsonl")
        children.open()
        children.append([{"event": "raced", "order": list(order)}])
        children.sync()


def evaluate_named(
    wanted: Iterable[SideRun],
    child: Child,
    folder: Path,
    launcher: Launcher[EvaluationJob],
    conditions: Conditions,
    display: SideRunDisplay,
    *,
    retry: bool = False,
) -> None:
    """Trains what has no line in the log yet; with ``retry``, what failed too. The launcher stays
    open.

    Raises ConfigError if another process is doing so, LaunchError if a worker vanishes again and
    again, StoreError if the disk fails; ChildError, or ConfigError for a mistake in the settings,
    if all of the children failed, or a baseline by the task's fault: then every child would.
    """
    asked = list(wanted)
    if _missing(asked, folder, retry):
        with hold(folder / "answers"):
            _evaluate(asked, child, folder, launcher, conditions, display, retry)
    keys = {side_run.key for side_run in asked}
    known = [pair for pair in read_side_runs(folder, log.warning) if pair[0].key in keys]
    failed = [pair for pair in known if pair[1].status == "failed"]
    everything = len(failed) == len(known)
    for side_run, found in failed:
        if everything or _is_fatal(side_run, found):
            raise _error(folder, side_run, found, alone=len(failed) == 1 or not everything)


def _is_fatal(side_run: SideRun, found: Evaluation) -> bool:
    """Whether every child would fail as this one did."""
    return side_run.purpose in ("baseline", "cheap") and found.fault in ("task", "settings")


def _error(folder: Path, side_run: SideRun, found: Evaluation, *, alone: bool = True) -> NosError:
    what = f"the child of {side_run.name} ({side_run.purpose}) failed"
    return child_error(
        folder, side_run.job_name, found, what if alone else f"{what}, as did others"
    )


def _missing(wanted: list[SideRun], folder: Path, retry: bool) -> dict[str, SideRun]:
    """What has no line in the log, or with ``retry`` one that says it failed, each once."""
    known = read_side_runs(folder, log.warning)
    done = {side_run.key for side_run, found in known if not (retry and found.status == "failed")}
    return {side_run.key: side_run for side_run in wanted if side_run.key not in done}


def _evaluate(
    wanted: list[SideRun],
    child: Child,
    folder: Path,
    launcher: Launcher[EvaluationJob],
    conditions: Conditions,
    display: SideRunDisplay,
    retry: bool,
) -> None:
    children = Log(folder / "named.jsonl")
    torn = children.open()
    if torn is not None:
        display.note(torn)
    todo = _missing(wanted, folder, retry)
    queue = [_job(side_run, child, folder, conditions) for side_run in todo.values()]
    ended = 0
    running: dict[str, str] = {}
    if todo:
        children.append([side_session(child, launcher.free, conditions.device_settings)])

    def take(job: EvaluationJob, answer: Evaluation) -> None:
        nonlocal ended
        side_run = todo[job.key]
        keep_traceback(folder, job.name, answer)
        children.append([_event(side_run, answer)])
        children.sync()
        job.forget()
        running.pop(job.key, None)
        ended += 1
        if _is_fatal(side_run, answer):
            raise _error(folder, side_run, answer)
        said = f"{answer.reward:.4f} at rate {answer.lr:g}" if answer.lr else answer.reason
        display.note(f"{side_run.purpose} {ended}/{len(todo)}: {side_run.name}: {said}")

    def started() -> Iterator[EvaluationJob]:
        for job in queue:
            running[job.key] = todo[job.key].name
            yield job

    def tick() -> None:
        display.update_side_runs(wanted[0].purpose, ended, len(todo), list(running.values()))

    for job in list(queue):  # a cluster went on after the process that asked had died
        if (left := job.left_answer()) is not None:
            queue.remove(job)
            take(job, left)
    remaining = started()
    for report in drive(lambda: remaining, launcher, display.note, tick):
        answer = evaluation_of(report)
        if answer is None:
            raise LaunchError(f"{report.job.label}: its worker vanished {MAX_LOST} times")
        take(report.job, answer)


def _job(side_run: SideRun, child: Child, folder: Path, conditions: Conditions) -> EvaluationJob:
    return EvaluationJob(
        side_run.job_name,
        side_run.key,
        side_run.optimizer,
        replace(child, rates=list(side_run.rates)) if side_run.rates else child,
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
        **({"where": side_run.where} if side_run.where else {}),
        **({"rates": list(side_run.rates)} if side_run.rates else {}),
        "evaluation": found.to_log(),
    }
