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

from nos_repro.errors import ConfigError, LaunchError, NosError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.estimate import Cost, Planned, measure, model_key
from nos_repro.experiments.files import read_file, read_json, write_json
from nos_repro.experiments.provenance import provenance
from nos_repro.experiments.replicas import Replicas
from nos_repro.experiments.schema import Study
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.launch.base import JobOutcome
from nos_repro.launch.cost import Prices, prices_of, unit_of
from nos_repro.launch.progress import say
from nos_repro.launch.settings import LauncherSettings
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
        return "the probe"

    @property
    def identity(self) -> str:
        """A second probe of the same models by the same code, with the same settings of the device
        and as many processes, is the same job."""
        conditions = self.conditions
        asked = [
            *((model_key(trial), trial_code(trial.to_json())) for trial in self.trials),
            dataclasses.asdict(conditions.device_settings),
            (conditions.nodes, conditions.processes),
        ]
        return f"probe-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]}"

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        with self.conditions.join() as replicas:
            try:
                answer = self._timed(replicas)
            except NosError as error:  # the same in all processes
                answer = {"problem": str(error)}
            if replicas.leads:
                write_json(self._path, answer)
        return "recorded", ""

    def _timed(self, replicas: Replicas) -> dict[str, Any]:
        costs = [measure(trial, self.conditions, replicas) for trial in self.trials]
        gpu = torch.cuda.is_available()
        return {
            "device": provenance("cuda" if gpu else "cpu")["device"],
            "gpu": gpu,
            "costs": [dataclasses.astuple(cost) for cost in costs],
        }

    def is_done(self) -> bool:
        return self._path.exists()

    def take(self) -> dict[str, Any]:
        """The answer; its file is removed. Raises LaunchError if there is no sound one."""
        data = read_file(self._path)
        if data is None:
            raise LaunchError(f"{self._path}: the probe left no answer")
        self._path.unlink(missing_ok=True)
        try:
            return dict(read_json(data))
        except (ValueError, TypeError) as error:
            raise LaunchError(f"{self._path}: not a probe's answer ({error}); run again") from None

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
    from nos_repro.launch.slurm.launcher import Slurm  # needs Submitit, which an extra brings

    launcher: Slurm[ProbeJob] = Slurm(short, folder, f"{study.study}-probe", note=say)
    say("--probe: a short job on the cluster is queued and waited for")
    (done,) = finish([job], launcher, say)
    answer = done.take()
    if "problem" in answer:
        raise ConfigError(f"--probe: {answer['problem']}")
    if settings.gpus and not answer["gpu"]:
        raise LaunchError(
            f"the probe had {settings.gpus} GPUs, but its PyTorch saw none: see launcher.setup and"
            " launcher.python"
        )
    costs = dict(zip(firsts, (Cost(*cost) for cost in answer["costs"]), strict=True))
    source = f"a few timed steps in a job on the cluster ({answer['device']})"
    return Prices(costs, unit_of(settings, threads), source)
