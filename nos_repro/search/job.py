"""An evaluation as a job: what a search hands to a launcher, and how its answer is read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.errors import ConfigError, DataError, LaunchError, RuleError
from nos_repro.experiments.files import read_file, read_json, write_json
from nos_repro.launch.base import JobOutcome, Report
from nos_repro.search.child import Child, Evaluation, Part, broken, evaluate

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions

GRACE_SECONDS = 60.0
"""The child checks the clock between two steps; its process is killed this much after its limit."""


@dataclass(frozen=True)
class EvaluationJob:
    """The child of one optimizer and one seed. Its answer is the file `<name>.json` in the folder.

    ``key`` says what is scored: a file of that name with another key is ignored.
    """

    name: str
    key: str
    optimizer: str
    child: Child
    conditions: Conditions
    folder: Path
    seed: int = 0
    test: bool = False
    part: Part = "whole"
    swept: Evaluation | None = None
    """What the child's sweep has found, for the rest of the child."""

    @property
    def label(self) -> str:
        return self.optimizer

    @property
    def identity(self) -> str:
        return f"{self.name} {self.key}"

    @property
    def limit_seconds(self) -> float | None:
        return self.child.seconds + GRACE_SECONDS

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.json"

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        """Scores the optimizer and writes the answer."""
        try:
            found = evaluate(
                self.optimizer,
                self.child,
                self.conditions,
                seed=self.seed,
                test=self.test,
                stop=stop,
                part=self.part,
                swept=self.swept,
            )
        except (ConfigError, DataError, RuleError) as error:  # trying it again would not help
            found = broken(error)
        write_json(self.path, {"key": self.key, "evaluation": found.to_json()})
        return "recorded", ""

    def answer(self) -> Evaluation | None:
        """The answer on disk; None if there is none or it is damaged. Raises StoreError."""
        try:
            values = read_json(read_file(self.path) or b"")
            if values["key"] == self.key:
                return Evaluation.from_json(values["evaluation"])
        except (ValueError, KeyError, TypeError):
            pass
        return None

    def left_answer(self) -> Evaluation | None:
        """What an earlier process left. A failure is forgotten: the bug may be mended by now."""
        found = self.answer()
        if found is not None and found.status == "failed":
            self.forget()
            return None
        return found

    def is_done(self) -> bool:
        return self.answer() is not None

    def forget(self) -> None:
        """Removes the answer, whose contents are in a log by now."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def evaluation_of(report: Report[EvaluationJob]) -> Evaluation | None:
    """What the last report of a job says about its optimizer; None if its workers vanished.

    Raises LaunchError if the job was cancelled or the cluster's time limit is too short.
    """
    if report.outcome in ("cancelled", "timed_out"):
        raise LaunchError(
            f"{report.job.label}: {report.message}\n"
            "  the search stops here; nothing is lost: run the same command again to continue"
        )
    if report.outcome == "overran":
        return Evaluation("overran", 0.0, reason=f"hung: {report.message}")
    return report.job.answer()
