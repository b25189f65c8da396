"""Small images that lie on the device: the batches that are made there are the same, and nobody
waits for them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nos_repro.bench.waits import counted
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import TaskData

# fmt: off
SETTINGS: dict[str, dict[str, Any]] = {
    "convnet":     {"data": "digits", "augment": True},
    "mlp":         {"data": "digits"},
    "wide_resnet": {"data": "digits", "depth": 10, "width": 1},
    "nasnet":      {"data": "digits", "classes": 10, "size": 32, "stem": "cifar", "cells": 1,
                    "filters": 24, "batch_size": 64, "replicas": 2, "steps_per_epoch": 6},
}
# fmt: on


def data_of(task: str, folder: Path) -> TaskData:
    cls = TASKS.find(task)
    return cls.make_data(cls.Settings(**SETTINGS[task]), data_dir=folder, seed=3)


def tensors(batches: Any) -> list[list[Tensor]]:
    return [tree_leaves(batch) for batch in batches]


@pytest.mark.parametrize("task", SETTINGS)
def test_a_batch_made_on_the_device_is_equal_to_the_bit(task: str, tmp_path: Path) -> None:
    usual, resident = data_of(task, tmp_path), data_of(task, tmp_path)
    resident.reside(torch.device("cpu"))  # the path of any device
    for batches in (
        (usual.train_batches(1, start=2), resident.train_batches(1, start=2)),
        (usual.val_batches(), resident.val_batches()),
        (usual.test_batches(), resident.test_batches()),
    ):
        for ours, theirs in zip(*map(tensors, batches), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("task", SETTINGS)
def test_a_batch_is_made_on_the_device_without_waiting_for_it(task: str, tmp_path: Path) -> None:
    data = data_of(task, tmp_path)
    data.reside(torch.device("meta"))
    batches = data.train_batches(0)
    with counted("meta") as waits:
        images, labels, *_ = next(batches)
    assert images.device.type == labels.device.type == "meta"
    assert str(waits) == "no waits"


def test_images_move_to_a_device_once(tmp_path: Path) -> None:
    data = data_of("convnet", tmp_path)
    data.reside(torch.device("meta"))
    with counted("meta") as waits:
        data.reside(torch.device("meta"))
    assert not waits.operations
