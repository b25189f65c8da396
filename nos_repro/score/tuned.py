"""The baselines, tuned once for each task and kept in the user's cache."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nos_repro.data.paths import user_cache
from nos_repro.errors import ConfigError
from nos_repro.experiments.code import code_digest, task_roots
from nos_repro.experiments.files import read_file, read_json, write_json
from nos_repro.extras import installed_versions
from nos_repro.score.candidate import Submission, read_candidate
from nos_repro.score.fault import Fault
from nos_repro.score.measuring import Measured, measure
from nos_repro.score.process import Nursery, ProcessLimits
from nos_repro.score.settings import ScoreSettings
from nos_repro.score.training import Trainer

BASELINES = {
    "adamw": "nos_repro.score.baselines.adamw",
    "sgd": "nos_repro.score.baselines.sgd",
}
"""The modules of the baselines' files."""
LIMITS = ProcessLimits(seconds=24 * 3600.0, call_seconds=120.0)


def baseline(name: str) -> Submission:
    """One of BASELINES."""
    spec = importlib.util.find_spec(BASELINES[name])
    assert spec is not None
    return read_candidate(str(spec.origin))


class Baselines:
    """Finds what the baselines reach on a task, or has them train it."""

    def __init__(
        self, settings: ScoreSettings, key: str, tell: Callable[[str], None] = lambda line: None
    ) -> None:
        self.settings = settings
        self.key = key
        self.tell = tell
        self.seconds = 0.0
        """What training them has taken."""
        self._found: dict[tuple[str, str], Measured] = {}

    def missing(self, trainer: Trainer) -> list[str]:
        """Those that would have to train the task."""
        return [name for name in BASELINES if self._kept(name, trainer) is None]

    def of(self, trainer: Trainer, nursery: Nursery) -> dict[str, Measured]:
        """All baselines on a task. Raises what training raises."""
        return {name: self._one(name, trainer, nursery) for name in BASELINES}

    def _one(self, name: str, trainer: Trainer, nursery: Nursery) -> Measured:
        if (name, trainer.name) in self._found:
            return self._found[name, trainer.name]
        found = self._kept(name, trainer)
        if found is None:
            found = self._train(name, trainer, nursery)
            write_json(self._place(name, trainer), found.to_json())
        self._found[name, trainer.name] = found
        return found

    def _train(self, name: str, trainer: Trainer, nursery: Nursery) -> Measured:
        self.tell(f"tuning {name} on {trainer.name}, once for all candidates")
        nursery.begin(LIMITS)
        try:
            found = measure(baseline(name), trainer, nursery, self.settings, self.key)
        except Fault as error:
            raise ConfigError(
                f"the baseline {name} fails on {trainer.name}: {error.reason}"
            ) from None
        if name == "adamw" and found.diverged:
            raise ConfigError(f"the baseline {name} diverges on {trainer.name} at every rate")
        return found

    def _kept(self, name: str, trainer: Trainer) -> Measured | None:
        data = read_file(self._place(name, trainer))
        if data is None:
            return None
        try:
            return Measured.from_json(read_json(data))
        except (ValueError, KeyError, TypeError):
            return None  # damaged: it is trained again

    def _place(self, name: str, trainer: Trainer) -> Path:
        """By all that decides the numbers: settings, data, code, versions and key."""
        section = dict(trainer.section)
        task = section.pop("name")
        declared = dataclasses.asdict(trainer.declared)
        own = [f"{__package__}.{module}" for module in ("training:Trainer", "measuring:measure")]
        facts: dict[str, Any] = {
            "baseline": baseline(name).digest,
            "task": trainer.section,
            "training": {k: v for k, v in declared.items() if k not in ("stand_in", "needs")},
            "tuning": [self.settings.rates, self.settings.refine, self.settings.seeds],
            "seed": self.settings.seed,
            "key": hashlib.sha256(self.key.encode()).hexdigest(),
            "code": code_digest((*task_roots(task, section), *own)),
            "versions": installed_versions(("torch", "torchvision", "numpy")),
            "data": "" if not trainer.declared.needs else str(trainer.data_dir),
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        return user_cache() / "score" / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
