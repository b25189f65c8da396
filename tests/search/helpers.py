"""A search small enough for a test, and launchers whose children answer at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import write_json
from nos_repro.experiments.load import task_section
from nos_repro.launch.base import Report
from nos_repro.search.child import Child, Evaluation, broken
from nos_repro.search.job import EvaluationJob
from nos_repro.search.loop import SearchLoop
from nos_repro.search.settings import ControllerSettings, Search

DIGITS = {
    "name": "convnet",
    "data": "digits",
    "batch_size": 50,
    "train_images": 200,
    "validation_images": 100,
}


def tiny_child(**changes: Any) -> Child:
    values: dict[str, Any] = {
        "task": task_section(DIGITS),
        "sweep": {"train_images": 100},
        "rates": [0.01, 0.1],
        "epochs": 1,
    }
    return Child(**{**values, **changes})


def tiny_search(**changes: Any) -> Search:
    values: dict[str, Any] = {
        "search": "tiny",
        "source": "002 sec. 3",
        "claim": "small enough for a test",
        "space": {
            "operands": ["g", "m", "sign(g)", "sign(m)", "1"],
            "unary": ["identity", "exp"],
            "binary": ["*", "/", "keep_left"],
            "iterations": 2,
        },
        "algorithm": {"name": "ppo", "lr": 0.01, "batch": 3, "passes": 2},
        "child": tiny_child(),
        "controller": ControllerSettings(hidden=16),
        "samples": 20,
        "scale": "smoke",
    }
    return Search(**{**values, **changes})


def reward_of_text(text: str) -> float:
    """A made-up reward, the same for the same text."""
    return random.Random(text).random()


class Instant:
    """``slots`` children at a time, each done as soon as asked for, in an order drawn by ``seed``.

    ``fate`` may say that the n-th child (from 0) is "lost", "overran" or "blocked" instead, or
    "failed": then its answer says that the task broke.
    """

    def __init__(
        self,
        slots: int = 1,
        seed: int = 0,
        reward: Callable[[str], float] = reward_of_text,
        fate: Callable[[int, EvaluationJob], str] = lambda n, job: "recorded",
    ) -> None:
        self.slots = slots
        self.reward = reward
        self.fate = fate
        self.jobs: list[EvaluationJob] = []
        self.trained: list[str] = []
        self._order = random.Random(seed)

    @property
    def free(self) -> int:
        return self.slots - len(self.jobs)

    def submit(self, job: EvaluationJob) -> None:
        assert self.free > 0, "a job was submitted to a launcher with no free worker"
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[Report[EvaluationJob]]:
        if not self.jobs:
            return []
        job = self.jobs.pop(self._order.randrange(len(self.jobs)))
        outcome: Any = self.fate(len(self.trained), job)
        self.trained.append(job.optimizer)
        if outcome in ("recorded", "failed"):
            found = self.found(job)
            if outcome == "failed":
                found, outcome = broken(ValueError("a wrong size")), "recorded"
            write_json(job.path, {"key": job.key, "evaluation": found.to_json()})
        return [Report(job, outcome, "as the test wished")]

    def found(self, job: EvaluationJob) -> Evaluation:
        """What a child that ends well finds."""
        return Evaluation("healthy", self.reward(job.optimizer), 0.1)

    def close(self) -> list[Report[EvaluationJob]]:
        stopped = [Report(job, "stopped") for job in self.jobs]
        self.jobs = []
        return stopped


class Notes:
    """A display that keeps its messages."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def update(self, loop: SearchLoop) -> None:
        pass

    def note(self, message: str) -> None:
        self.notes.append(message)

    def update_side_runs(self, what: str, done: int, total: int, running: Sequence[str]) -> None:
        pass


def loop(
    folder: Path, launcher: Any = None, search: Search | None = None, *, retry: bool = False
) -> SearchLoop:
    return SearchLoop(
        search or tiny_search(),
        folder,
        launcher if launcher is not None else Instant(),
        Conditions(folder),
        Notes(),
        retry=retry,
    )
