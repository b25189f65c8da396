"""The steps that a check of a device has timed (`check-device`): a dry run's GPU-hours come from
`results/device/<name>.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError
from nos_repro.experiments.device import CHECKS, DeviceSettings, InEffect
from nos_repro.experiments.estimate import Cost, Planned, model_key
from nos_repro.experiments.files import read_file, read_json
from nos_repro.experiments.trial import Trial, make_settings
from nos_repro.registry import names_in

LONGEST = 1e6
"""Seconds of a step, an evaluation or a compilation; more was never measured."""


@dataclass(frozen=True)
class Timing:
    """A model's step on the checked device, its settings and the device's as they held there."""

    model: str
    how: str
    task: str
    settings: dict[str, Any]
    device_settings: dict[str, Any]
    """As a record keeps them (`InEffect`)."""
    step_seconds: float
    evaluation_seconds: float
    """Of all evaluations after an epoch; 0 where they were not timed."""
    steps_per_epoch: int
    compilation_seconds: float = 0.0
    """Before the first step, if the model is compiled."""

    def __post_init__(self) -> None:
        """Raises ValueError and TypeError for what no clock has measured."""
        seconds = self.step_seconds, self.evaluation_seconds, self.compilation_seconds
        if not all(0 <= value < LONGEST for value in seconds) or self.step_seconds == 0:
            raise ValueError(f"a time is not a positive number of seconds: {seconds}")
        if not isinstance(self.steps_per_epoch, int) or self.steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be at least 1, got {self.steps_per_epoch}")

    @property
    def key(self) -> str:
        """As `speed_key` of the trials that it holds for. Raises what odd settings raise."""
        settings = make_settings(self.task, self.settings)
        return _key(self.task, settings, InEffect(**self.device_settings))

    @property
    def cost(self) -> Cost:
        return Cost(
            self.step_seconds,
            self.evaluation_seconds,
            self.steps_per_epoch,
            self.compilation_seconds,
        )


@dataclass(frozen=True)
class StoredCheck:
    """A check of a GPU: its name, the day, and the costs by `speed_key`."""

    device: str
    date: str
    costs: dict[str, Cost]


def speed_key(trial: Trial, device: DeviceSettings, kind: str = "cuda") -> str:
    """What decides a trial's speed on a ``kind`` of device, apart from its optimizer."""
    settings = make_settings(trial.task, trial.task_settings)
    held = device.on(kind, settings)
    return _key(trial.task, held.of_task(settings), held)


def held_as(trial: Trial, device: DeviceSettings, recorded: Mapping[str, Any] | None) -> bool:
    """Whether a record's `device_settings` are those of the trial on CUDA, as far as they decide
    its speed; an older record has none."""
    held = device.on("cuda", make_settings(trial.task, trial.task_settings))
    return recorded is None or _deciding({**_UNSET, **recorded}) == _deciding(held.to_json())


_UNSET = {"compile": False, "shard": False}
"""What a record from before these settings had in effect."""


def _key(task: str, settings: Any, held: InEffect) -> str:
    return json.dumps(
        [task, dataclasses.asdict(settings), _deciding(held.to_json())], sort_keys=True
    )


def _deciding(device: Mapping[str, Any]) -> dict[str, Any]:
    """Where the data lies is left out: it is not in the time of a step."""
    return {key: value for key, value in device.items() if key != "resident"}


def stored_checks(results: Path) -> list[StoredCheck]:
    """The sound checks of GPUs in a results folder, the newest first; a CPU's are left out, and so
    is one that names a module which the user's own files do not."""
    folder = results / CHECKS
    found = []
    for path in sorted(folder.glob("*.json")):
        data = read_file(path)
        try:
            values = read_json(data or b"")
            if values["accelerator"] is True:
                timings = [Timing(**each) for each in values["timings"]]
                with names_in(path, trust=False):
                    costs = {timing.key: timing.cost for timing in timings}
                found.append(StoredCheck(str(values["device"]), str(values["date"]), costs))
        except (ValueError, KeyError, TypeError, AttributeError, ConfigError):
            continue  # `report --all` names what it cannot read
    return sorted(found, key=lambda check: check.date, reverse=True)


def checked_costs(
    planned: Sequence[Planned],
    checks: Iterable[StoredCheck],
    device: DeviceSettings,
    name: str | None = None,
) -> tuple[dict[str, Cost], StoredCheck] | None:
    """The cost of each distinct model of a plan on one GPU, and the first check that has timed
    them all: on the GPU called ``name``, if that is given."""
    keys = {model_key(entry.trial): speed_key(entry.trial, device) for entry in planned}
    for check in checks:
        if name in (None, check.device) and all(key in check.costs for key in keys.values()):
            return {model: check.costs[key] for model, key in keys.items()}, check
    return None
