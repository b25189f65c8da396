"""The cascade: probes, then the tasks of one stage after another, the held-out ones last."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from nos_repro import __version__
from nos_repro.experiments.provenance import provenance
from nos_repro.score.candidate import Submission, read_candidate
from nos_repro.score.fault import Fault, OutOfTime
from nos_repro.score.measuring import TaskScore, measure, score_task
from nos_repro.score.probes import PROBES, probe
from nos_repro.score.process import Costs, Nursery, ProcessLimits
from nos_repro.score.settings import HELD_OUT, STAGES, ScoreSettings
from nos_repro.score.training import Trainer
from nos_repro.score.tuned import Baselines


@dataclass
class ScoredCandidate:
    """What is known of a candidate. ``stage`` is the last one that it has finished, -1 for none;
    ``stopped`` says why it did not go on; ``fault`` and ``reason`` why it is not valid."""

    name: str
    kind: str
    digest: str
    stages: list[int]
    valid: bool = True
    fault: str = ""
    reason: str = ""
    cheat: bool = False
    traceback: str = ""
    printed: str = ""
    stage: int = -1
    stopped: str = ""
    probes: list[str] = field(default_factory=list)
    tasks: dict[str, TaskScore] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)
    seconds: float = 0.0
    landlock: int = 0

    def speedup(self, stages: Iterable[int]) -> float | None:
        """The geometric mean over the tasks of these stages that it trained; None for none."""
        found = [task.speedup for task in self.tasks.values() if task.stage in stages]
        return math.exp(statistics.fmean(map(math.log, found))) if found else None


class Scorer:
    """Scores candidates, one after another: a context that keeps data, baselines and the process
    that starts candidates.

    ``key``: a secret from which seeds and orders are drawn; "" for the public ones. ``data_dir``:
    where data sets are. ``threads``: of this process, which computes the gradients. ``nursery``:
    one that is started already, and stays. Raises ConfigError and DataError where a task cannot be
    trained at all.
    """

    def __init__(
        self,
        settings: ScoreSettings,
        limits: ProcessLimits | None = None,
        *,
        data_dir: Path,
        key: str = "",
        threads: int = 1,
        nursery: Nursery | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        torch.set_num_threads(threads)
        self.settings = settings
        self.limits = limits or ProcessLimits(call_seconds=settings.call_seconds)
        self.key = key
        self.tell = tell
        self.baselines = Baselines(settings, key, tell)
        self.trainers = {
            name: Trainer(name, task, data_dir) for name, task in settings.tasks.items()
        }
        self._nursery = nursery
        self._owns_nursery = nursery is None

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._nursery is not None and self._owns_nursery:
            self._nursery.close()
        self._nursery = None

    def score(self, given: str | Path, stages: Iterable[int] = STAGES) -> ScoredCandidate:
        """Takes `FILE.py`, a rule's text or a name through these stages, the probes first."""
        wanted = sorted(set(stages))
        assert set(wanted) <= set(STAGES), wanted
        try:
            candidate = read_candidate(str(given))
        except Fault as error:
            return _refused(ScoredCandidate(str(given), "", "", wanted), error)
        if self._nursery is None or (self._owns_nursery and self._nursery.has_ended):
            self.close()
            self._nursery = Nursery()
        for stage in wanted:  # before the candidate's time begins
            for name in self.settings.of_stage(stage):
                self.baselines.of(self.trainers[name], self._nursery)
        return self._take(candidate, wanted, self._nursery)

    def _take(self, candidate: Submission, stages: list[int], nursery: Nursery) -> ScoredCandidate:
        found = ScoredCandidate(candidate.name, candidate.kind, candidate.digest, stages)
        nursery.begin(self.limits)
        started = time.monotonic()
        try:
            found.probes = probe(candidate, nursery)
            found.stage = 0
            for stage in stages:
                self._stage(found, candidate, stage, nursery)
                found.stage = stage
                if self._stops(found, stage, last=stage == stages[-1]):
                    break
        except Fault as error:
            _refused(found, error)
        except OutOfTime:
            found.stopped = f"its time of {self.limits.seconds:g} s was up"
        found.printed = nursery.printed()
        found.costs = nursery.costs
        found.landlock = nursery.landlock
        found.seconds = time.monotonic() - started
        return found

    def _stage(
        self, found: ScoredCandidate, candidate: Submission, stage: int, nursery: Nursery
    ) -> None:
        for name in self.settings.of_stage(stage):
            trainer = self.trainers[name]
            known = self.baselines.of(trainer, nursery)
            self.tell(f"{candidate.name}: stage {stage}, {name}")
            measured = measure(candidate, trainer, nursery, self.settings, self.key)
            found.tasks[name] = score_task(trainer, measured, known["adamw"], known["sgd"])

    def _stops(self, found: ScoredCandidate, stage: int, *, last: bool) -> bool:
        speedup = found.speedup([stage])
        if last or stage == HELD_OUT or speedup is None:
            return False
        bar = self.settings.bars[stage - 1]
        if speedup < bar:
            found.stopped = (
                f"its speed-up of {speedup:.3g} in stage {stage} is below the bar, {bar:g}"
            )
        return speedup < bar

    def metrics(self, found: ScoredCandidate) -> dict[str, float]:
        """Numbers alone, for programs that propose candidates. `combined_score` is the geometric
        mean of the speed-ups over the tasks of the stages that were asked for, the held-out ones
        not among them."""
        visible = [
            name for stage in found.stages if stage != HELD_OUT
            for name in self.settings.of_stage(stage)
        ]  # fmt: skip
        values = {"valid": float(found.valid), "stage": float(found.stage)}
        if visible:
            worth = [
                found.tasks[name].speedup if name in found.tasks else self.settings.unreached
                for name in visible
            ]
            passed = found.valid and found.stage >= 0
            mean = math.exp(statistics.fmean(map(math.log, worth)))
            values["combined_score"] = mean if passed else 0.0
        for name, task in found.tasks.items():
            prefix = "held_out_" if task.stage == HELD_OUT else ""
            values[f"{prefix}speedup_{name}"] = task.speedup
            if task.normalised is not None:
                values[f"{prefix}normalised_{name}"] = task.normalised
        if (held_out := found.speedup([HELD_OUT])) is not None:
            values["held_out_speedup"] = held_out
        values["seconds"] = found.seconds
        return values

    def document(self, found: ScoredCandidate) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "score": self.settings.score,
            "scale": self.settings.scale,
            "candidate": {"name": found.name, "kind": found.kind, "digest": found.digest},
            "valid": found.valid,
            "fault": found.fault,
            "cheat": found.cheat,
            "reason": found.reason,
            "stages": found.stages,
            "stage": found.stage,
            "stopped": found.stopped,
            "metrics": self.metrics(found),
            "probes": {name: name in found.probes for name in PROBES},
            "tasks": found.tasks,
            "seed": self.settings.seed,
            "key": "secret" if self.key else "public",
            "limits": {
                "seconds": self.limits.seconds,
                "call_seconds": self.limits.call_seconds,
                "memory_bytes": self.limits.memory,
            },
            "costs": {
                "seconds": found.seconds,
                "candidate_seconds": found.costs.seconds,
                "candidate_cpu_seconds": found.costs.cpu_seconds,
                "peak_memory_bytes": found.costs.memory,
                "updates": found.costs.steps,
                "trainings": found.costs.runs,
            },
            "sandbox": {"landlock": found.landlock},
            "feedback": {"traceback": found.traceback, "printed": found.printed},
            "package": __version__,
            "provenance": provenance("cpu"),
        }


def _refused(found: ScoredCandidate, error: Fault) -> ScoredCandidate:
    found.valid = False
    found.fault, found.reason, found.cheat = error.kind, error.reason, error.cheat
    found.traceback = error.traceback
    return found
