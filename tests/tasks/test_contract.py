"""What every registered task promises to the training loop; new tasks are found automatically."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils._pytree import tree_flatten

from nos_repro.tasks import TASKS
from nos_repro.tasks.base import Task, TaskData

# fmt: off
SMALL = {
    # task: what makes it small enough for a test
    "wide_resnet": {"depth": 10, "width": 1},
    "rosenbrock":  {},
    "ptb_lstm":    {"data": "pydoc", "hidden": 24, "embedding": 16, "batch_size": 8},
    "gnmt":        {"data": "numbers", "train_pairs": 96, "vocabulary": 60, "layers": 2,
                    "width": 16, "batch_size": 24, "beam": 1},
    "nasnet":      {"classes": 10, "size": 32, "stem": "cifar", "cells": 1, "filters": 24,
                    "batch_size": 64, "replicas": 2, "steps_per_epoch": 6, "channels_last": True},
}
RATES = {"rosenbrock": 1e-4}
# fmt: on


def small(name: str) -> tuple[type[Task], Any]:
    cls = TASKS.find(name)
    fields = {field.name for field in dataclasses.fields(cls.Settings)}
    embedded = {"data": "digits"} if "data" in fields else {}
    return cls, cls.Settings(**{**embedded, **SMALL.get(name, {})})


def build(name: str, folder: Path, seed: int = 0) -> tuple[Task, TaskData]:
    cls, settings = small(name)
    torch.manual_seed(seed)
    task = cls(settings)
    return task, cls.make_data(settings, data_dir=folder, seed=seed)


def same(one: Any, two: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(two), strict=True))


def leaves(batch: Any) -> list[Tensor]:
    return tree_flatten(batch)[0]


def score(task: Task, data: TaskData) -> dict[str, float]:
    totals: dict[str, float] = {}
    task.eval()
    with torch.inference_mode():
        for batch in data.val_batches():
            for key, value in task.evaluation_sums(batch).items():
                totals[key] = totals.get(key, 0.0) + float(value)
    task.train()
    return task.metrics(totals)


every_task = pytest.mark.parametrize("name", TASKS.names())


@every_task
def test_a_label_names_settings_that_there_are(name: str) -> None:
    cls, settings = small(name)
    assert "{" not in cls.label.format(**dataclasses.asdict(settings))


@every_task
def test_settings_are_a_structured_config_that_round_trips(name: str) -> None:
    cls, settings = small(name)
    assert dataclasses.is_dataclass(settings)
    merged = OmegaConf.merge(OmegaConf.structured(cls.Settings), dataclasses.asdict(settings))
    assert OmegaConf.to_object(merged) == settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.anything = 1


@every_task
def test_an_untrained_model_knows_nothing(name: str, tmp_path: Path) -> None:
    task, data = build(name, tmp_path)
    level = task.chance(task.settings)
    assert score(task, data)[task.measures[0].name] == pytest.approx(level, abs=12)


@every_task
def test_train_batches_resume_anywhere_and_epochs_differ_by_draws_alone(
    name: str, tmp_path: Path
) -> None:
    _, data = build(name, tmp_path)
    whole = list(data.train_batches(3))
    assert len(whole) == data.steps_per_epoch
    torch.manual_seed(99)
    _, again = build(name, tmp_path)
    for start in (0, 1, data.steps_per_epoch - 1, data.steps_per_epoch):
        rest = list(again.train_batches(3, start))
        assert same(rest, whole[start:])
    if leaves(whole):
        assert not same(whole[0], next(data.train_batches(4)))


@every_task
def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    name: str, tmp_path: Path
) -> None:
    weights = [list(build(name, tmp_path, seed)[0].parameters()) for seed in (0, 0, 1)]
    assert same(weights[0], weights[1])
    assert name == "rosenbrock" or not same(weights[0], weights[2])


@every_task
def test_the_loss_falls_within_a_few_steps_and_repeats_bit_for_bit(
    name: str, tmp_path: Path
) -> None:
    curves = []
    for _ in range(2):
        task, data = build(name, tmp_path)
        optimizer = torch.optim.Adam(task.parameters(), RATES.get(name, 3e-3))
        batches = itertools.chain.from_iterable(data.train_batches(e) for e in itertools.count())
        curve = []
        for batch in itertools.islice(batches, 12):
            loss = task.training_step(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        curves.append(curve)
    assert sum(curves[0][-3:]) < sum(curves[0][:3])
    assert curves[0] == curves[1]


@every_task
def test_sums_of_parts_make_the_metrics_that_the_task_declares(name: str, tmp_path: Path) -> None:
    task, data = build(name, tmp_path)
    task.eval()
    sums = [task.evaluation_sums(batch) for batch in data.test_batches()]
    assert all("count" in part and not part[key].requires_grad for part in sums for key in part)
    whole = task.metrics({key: sum(float(part[key]) for part in sums) for key in sums[0]})
    assert {metric.name for metric in task.measures} <= whole.keys()


@every_task
def test_nothing_is_read_before_it_is_needed(name: str) -> None:
    cls = TASKS.find(name)
    cls.make_data(cls.Settings(), data_dir=Path("/nowhere"), seed=0)
