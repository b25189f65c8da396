"""`--probe`: a short job on the cluster that times a few updates of each distinct model there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from nos_repro.errors import ConfigError, LaunchError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.estimate import Cost, Planned, measure, model_key
from nos_repro.experiments.files import read_file, write_json
from nos_repro.experiments.provenance import provenance
from nos_repro.experiments.schema import Study
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.launch.base import JobOutcome
from nos_repro.launch.cost import Prices, prices_of, unit_of
from nos_repro.launch.progress import say
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.slurm.launcher import Slurm
from nos_repro.launch.verify import finish

MOST_HOURS = 0.5
"""The probe's time limit, if the study's is not shorter: a short job starts soon."""


@dataclass(frozen=True)
class ProbeJob:
    """Times a few steps of each trial on the device that it finds; its answer is a file."""

    trials: tuple[Trial, ...]
    folder: Path
    conditions: Conditions
    limit_seconds: ClassVar[float | None] = None

    @property
    def label(self) -> str:
        return f"timing a few updates of {len(self.trials)} models"

    @property
    def identity(self) -> str:
        """A second probe of the same models by the same code is the same job."""
        asked = [(model_key(trial), trial_code(trial.to_json())) for trial in self.trials]
        return f"probe-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]}"

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        with self.conditions.join() as replicas:
            costs = [measure(trial, self.conditions, replicas) for trial in self.trials]
            if replicas.leads:
                device = "cuda" if torch.cuda.is_available() else "cpu"
                found = [dataclasses.astuple(cost) for cost in costs]
                answer = {"device": provenance(device)["device"], "gpu": device == "cuda"}
                write_json(self._path, {**answer, "costs": found})
        return "recorded", ""

    def is_done(self) -> bool:
        return self._path.exists()

    def take(self) -> dict[str, Any]:
        """The answer; its file is removed. Raises LaunchError if there is none."""
        data = read_file(self._path)
        if data is None:
            raise LaunchError(f"{self._path}: the probe left no answer")
        self._path.unlink(missing_ok=True)
        return dict(json.loads(data))

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.identity}.json"


def timed(
    study: Study,
    store: Store,
    planned: Sequence[Planned],
    conditions: Conditions,
    settings: LauncherSettings | None,
    threads: int,
    *,
    probe: bool,
) -> Prices:
    """What the models of a plan cost, by a probe on the cluster if that is asked for."""
    if not probe:
        return prices_of(planned, store, conditions, settings, threads)
    if settings is None or settings.name != "slurm":
        raise ConfigError("--probe times a job on a cluster: add launcher=slurm")
    firsts = {model_key(entry.trial): entry.trial for entry in reversed(planned)}
    folder = store.root.absolute() / "slurm"
    job = ProbeJob(tuple(firsts.values()), folder, conditions)
    hours = min(settings.hours, MOST_HOURS)
    short = dataclasses.replace(
        settings, hours=hours, signal_seconds=min(settings.signal_seconds, int(hours * 1800))
    )
    launcher: Slurm[ProbeJob] = Slurm(short, folder, f"{study.study}-probe", note=say)
    say("--probe: a short job on the cluster is queued and waited for")
    (done,) = finish([job], launcher, say)
    answer = done.take()
    if settings.gpus and not answer["gpu"]:
        raise LaunchError(
            f"the probe had {settings.gpus} GPUs, but its PyTorch saw none: see launcher.setup and"
            " launcher.python"
        )
    costs = dict(zip(firsts, (Cost(*cost) for cost in answer["costs"]), strict=True))
    source = f"a few timed steps in a job on the cluster ({answer['device']})"
    return Prices(costs, unit_of(settings, threads), source)
