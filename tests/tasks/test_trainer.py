"""The same modules under a plain `pl.Trainer`: the weights of a manual loop, bit for bit."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import Parameter

from nos_repro.errors import ConfigError
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import Task, TaskData

# fmt: off
CASES = {
    "convnet":     {"data": "digits", "augment": True, "train_images": 600},
    "wide_resnet": {"data": "digits", "depth": 10, "width": 1, "train_images": 384},
    "rosenbrock":  {},
    "ptb_lstm":    {"data": "pydoc", "hidden": 24, "embedding": 16, "steps_per_epoch": 5},
    "gnmt":        {"data": "numbers", "train_pairs": 96, "vocabulary": 60, "layers": 2,
                    "width": 16, "batch_size": 24, "beam": 1},
    "nasnet":      {"data": "digits", "classes": 10, "size": 32, "stem": "cifar", "cells": 1,
                    "filters": 24, "batch_size": 32, "replicas": 1, "steps_per_epoch": 3,
                    "auxiliary": 0.0},
}
# fmt: on
EPOCHS = 2


def maker(
    parameters: Iterable[Parameter],
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.5)
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def build(name: str, folder: Path) -> tuple[Task, TaskData]:
    cls = TASKS.find(name)
    settings: Any = cls.Settings(**CASES[name])
    torch.manual_seed(0)
    return cls(settings, maker), cls.make_data(settings, data_dir=folder, seed=4)


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


@pytest.mark.parametrize("name", CASES)
def test_lightning_and_a_hand_written_loop_end_in_the_same_weights(
    name: str, tmp_path: Path
) -> None:
    ours, data = build(name, tmp_path)
    made = ours.configure_optimizers()
    for epoch in range(EPOCHS):
        for batch in data.train_batches(epoch):
            made["optimizer"].zero_grad()
            ours.training_step(batch).backward()
            made["optimizer"].step()
            made["lr_scheduler"]["scheduler"].step()
    theirs, data = build(name, tmp_path)
    trainer(tmp_path).fit(theirs, datamodule=data)
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", CASES)
def test_lightnings_metrics_are_those_of_the_whole_set(name: str, tmp_path: Path) -> None:
    task, data = build(name, tmp_path)
    (logged,) = trainer(tmp_path).test(task, datamodule=data, verbose=False)
    sums: dict[str, float] = {}
    with torch.inference_mode():
        for batch in data.test_batches():
            for key, value in task.eval().evaluation_sums(batch).items():
                sums[key] = sums.get(key, 0.0) + float(value)
    expected = {f"test_{key}": value for key, value in task.metrics(sums).items()}
    assert logged == pytest.approx(expected)


def test_a_task_without_a_maker_says_so() -> None:
    task = TASKS.find("rosenbrock")
    with pytest.raises(ConfigError, match="Rosenbrock was built without a maker of optimizers"):
        task(task.Settings()).configure_optimizers()
