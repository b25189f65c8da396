"""A trained model from a trial's checkpoint, and the data whose vocabulary it uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nos_repro.errors import ConfigError, NosError
from nos_repro.experiments.checkpoint import (
    MISFITS,
    DamagedCheckpoint,
    Kind,
    first_line,
    read_checkpoint,
)
from nos_repro.experiments.files import read_file, read_json
from nos_repro.experiments.trial import make_settings
from nos_repro.registry import names_in
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import Task, TaskData


def load_trained(checkpoint: Path, data_dir: Path, *, trust: bool = False) -> tuple[Task, TaskData]:
    """The task of a trial's checkpoint (the file, or the trial's folder), ready for use, and its
    data. Only reads.

    The trial's `settings.json`, beside the checkpoint, says what the model is; it may name only
    what ships, unless you ``trust`` it (`registry.names_in`). Raises ConfigError if it names more,
    or if a file is missing, damaged or not a trial's, and what preparing the data raises.
    """
    path = checkpoint / "checkpoint.pt" if checkpoint.is_dir() else checkpoint
    beside = path.parent / "settings.json"
    name, values = _settings(beside)
    state = read_state(path, {"model": dict})
    weights = state.get("evaluated", state["model"])
    with names_in(beside, trust=trust):
        cls = TASKS.find(name)
        try:
            settings = make_settings(name, values)
            task = cls(settings)
            task.load_state_dict(weights)
            data = cls.make_data(settings, data_dir=data_dir, seed=0)
        except NosError:
            raise
        except (*MISFITS, ArithmeticError) as error:
            problem = f"does not fit the current task '{name}' ({first_line(error)})"
            raise ConfigError(f"{path}: {problem}") from None
        if not all(map(is_finite, task.state_dict().values())):
            raise ConfigError(f"{path}: its weights are not finite numbers: the trial diverged")
        data.prepare()
    return task.eval(), data


def is_finite(weights: torch.Tensor) -> bool:
    return bool(torch.isfinite(weights).all())


def _settings(path: Path) -> tuple[str, dict[str, Any]]:
    """The task's name and its settings."""
    data = read_file(path)
    try:
        values = read_json(data or b"")
        return str(values["task"]), dict(values["task_settings"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{path.parent}: not a trial's folder (it has no settings.json of a trial)\n"
            "  name one such as results/table4/small/trials/0123456789ab, or its checkpoint.pt"
        ) from None


def read_state(path: Path, holds: Mapping[str, Kind]) -> dict[str, Any]:
    """The state that a trial has saved; unlike `Checkpoints.load` this moves no file.

    Raises ConfigError if the file is missing, damaged or not a checkpoint of this version which
    ``holds`` these, StoreError if it cannot be read.
    """
    try:
        state = read_checkpoint(path, holds)
    except DamagedCheckpoint as error:
        raise ConfigError(f"{path} is damaged, or not a trial's checkpoint ({error})") from None
    if state is None:
        raise ConfigError(
            f"no file {path}\n  the trial has not saved yet, or its checkpoint was removed"
        )
    return state
