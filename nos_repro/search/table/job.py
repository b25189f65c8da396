"""Several rules' children as one job: a child of a cheap task is shorter than handing it over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.errors import ConfigError, DataError, RuleError
from nos_repro.experiments.files import read_file, read_json, write_json
from nos_repro.launch.base import JobOutcome
from nos_repro.search.child import Child, Evaluation, broken, evaluate
from nos_repro.search.job import GRACE_SECONDS

if TYPE_CHECKING:
    from nos_repro.experiments.build import Conditions

SAVE_SECONDS = 10.0
"""How often a job saves what its children have found so far."""


@dataclass(frozen=True)
class PackJob:
    """The children of some rules with one seed. Its answer is the file `<name>.json` in the folder,
    with an evaluation per rule, by key; while it is incomplete, the job continues from it."""

    name: str
    rules: dict[str, str]
    """What is trained, by the rule's key: texts that the factory knows."""
    child: Child
    conditions: Conditions
    folder: Path
    seed: int

    @property
    def label(self) -> str:
        first = next(iter(self.rules.values()))
        more = f" and {len(self.rules) - 1} others" if len(self.rules) > 1 else ""
        return f"{self.name}: {first}{more}"

    @property
    def identity(self) -> str:
        return f"{self.name} {' '.join(self.rules)}"

    @property
    def limit_seconds(self) -> float | None:
        return len(self.rules) * self.child.seconds + GRACE_SECONDS

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.json"

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        """Trains what has no answer yet."""
        found = self.answers()
        saved = time.monotonic()
        try:
            for key, text in self.rules.items():
                if key not in found:
                    found[key] = self._evaluate(text, stop)
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self._save(found)
                        saved = time.monotonic()
        finally:
            if found:
                self._save(found)
        return "recorded", ""

    def _evaluate(self, text: str, stop: Callable[[], bool]) -> Evaluation:
        try:
            return evaluate(
                text, self.child, self.conditions, seed=self.seed, curve=True, stop=stop
            )
        except (ConfigError, DataError, RuleError) as error:  # trying it again would not help
            return broken(error)

    def _save(self, found: dict[str, Evaluation]) -> None:
        write_json(self.path, {key: each.to_json() for key, each in found.items()})

    def answers(self) -> dict[str, Evaluation]:
        """What is on disk, by key; nothing if it is damaged. Raises StoreError."""
        try:
            values = read_json(read_file(self.path) or b"{}")
            return {
                key: Evaluation.from_json(each) for key, each in values.items() if key in self.rules
            }
        except (ValueError, TypeError, AttributeError):
            return {}

    def is_done(self) -> bool:
        return self.answers().keys() == self.rules.keys()

    def forget(self) -> None:
        """Removes the answer, whose contents are in a log by now."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
