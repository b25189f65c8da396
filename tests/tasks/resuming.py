"""Every task promises that a run stopped again and again ends like one that is not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.training import STATE, Run, Stopped, train
from nos_repro.experiments.trial import Trial


def trained(
    trial: Trial, folder: Path, data_dir: Path, stop: Callable[[], bool] = lambda: False
) -> Run:
    """The trial's run to its end, from the checkpoint in the folder if there is one."""
    run = build(trial, Conditions(data_dir))
    checkpoints = Checkpoints(folder, every_seconds=1e9)
    state = checkpoints.load(pytest.fail, STATE)
    if state is not None:
        run.restore(state)
    train(run, checkpoints, stop=stop)
    return run


def stopped_and_whole(trial: Trial, folder: Path, data_dir: Path, steps: int) -> tuple[Run, Run]:
    """The run that was stopped at every `steps`-th question and the one that never was, which
    agree in their history and their state to the bit."""
    whole = trained(trial, folder / "whole", data_dir)
    stops, parts = 0, None
    while parts is None:
        asked = itertools.count(1)
        try:
            parts = trained(trial, folder / "parts", data_dir, lambda: next(asked) == steps)  # noqa: B023
        except Stopped:
            stops += 1
    assert stops >= 1
    assert json.dumps(parts.history) == json.dumps(whole.history)
    own, other = parts.task.state_dict(), whole.task.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in other)
    return parts, whole
