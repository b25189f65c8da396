"""A trained model from a trial's checkpoint, and the data whose vocabulary it speaks."""

from __future__ import annotations

import json
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.trial import make_settings
from nos_repro.tasks import find_task
from nos_repro.tasks.base import Task, TaskData


def load_trained(checkpoint: Path, data_dir: Path) -> tuple[Task, TaskData]:
    """The task of a `checkpoint.pt` (or of the trial's folder), ready to be used, and its data.

    What the model is stands in the trial's `settings.json`, beside the checkpoint. Raises
    ConfigError where either is missing or cannot be read, and what preparing the data raises.
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    try:
        values = json.loads((folder / "settings.json").read_bytes())
    except (OSError, ValueError):
        raise ConfigError(
            f"{checkpoint}: no trial's checkpoint (there is no settings.json beside it)\n"
            "  name a folder such as results/table4/small/trials/0123456789ab"
        ) from None
    problems: list[str] = []
    state = Checkpoints(folder).load(problems.append)
    if state is None:
        raise ConfigError(problems[0] if problems else f"{folder} has no checkpoint.pt")
    settings = make_settings(values["task"], values["task_settings"])
    cls = find_task(values["task"])
    data = cls.make_data(settings, data_dir=data_dir, seed=0)
    data.prepare()
    task = cls(settings)
    task.load_state_dict(state["model"])
    return task.eval(), data
