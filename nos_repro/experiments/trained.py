"""A trained model from a trial's checkpoint, and the data whose vocabulary it speaks."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from nos_repro.errors import ConfigError, NosError
from nos_repro.experiments.checkpoint import VERSION
from nos_repro.experiments.trial import make_settings
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import Task, TaskData


def load_trained(checkpoint: Path, data_dir: Path) -> tuple[Task, TaskData]:
    """The task of a trial's checkpoint (the file, or the trial's folder), ready to be used, and
    its data. Only reads.

    What the model is stands in the trial's `settings.json`, beside the checkpoint. Raises
    ConfigError where either is missing, damaged or not a trial's, and what preparing the data
    raises.
    """
    path = checkpoint / "checkpoint.pt" if checkpoint.is_dir() else checkpoint
    name, values = _settings(path.parent / "settings.json")
    weights = read_checkpoint(path)["model"]
    cls = TASKS.find(name)
    try:
        settings = make_settings(name, values)
        task = cls(settings)
        task.load_state_dict(weights)
    except NosError:
        raise
    except (TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not of the task '{name}' as it is now ({reason})") from None
    data = cls.make_data(settings, data_dir=data_dir, seed=0)
    data.prepare()
    return task.eval(), data


def _settings(path: Path) -> tuple[str, dict[str, Any]]:
    """The task's name and its settings."""
    try:
        values = json.loads(path.read_bytes())
        return values["task"], dict(values["task_settings"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{path.parent}: no trial's folder (there is no settings.json of a trial)\n"
            "  name one such as results/table4/small/trials/0123456789ab, or its checkpoint.pt"
        ) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state that a trial has saved; unlike `Checkpoints.load` this moves no file.

    Raises ConfigError where the file is missing, damaged or no checkpoint of this version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()
        if torn is not None:
            raise ValueError(f"checksum of {torn} is wrong")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] != VERSION:
            raise ValueError(f"version {state['version']}, this code reads {VERSION}")
    except FileNotFoundError:
        raise ConfigError(
            f"no file {path}\n  the trial has not saved yet, or its checkpoint was removed"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, EOFError,
            pickle.UnpicklingError, zipfile.BadZipFile) as error:  # fmt: skip
        raise ConfigError(f"{path} is damaged, or no trial's checkpoint ({error})") from None
    return state
