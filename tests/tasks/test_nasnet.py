"""NASNet as it is trained: its loss, its replicas, its averages, its data, and runs that resume."""

import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nos_repro.bench.device_counts import nasnet_operations
from nos_repro.errors import ConfigError, DataError
from nos_repro.experiments.build import Conditions, build_task
from nos_repro.experiments.load import load_study
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.trial import Training, Trial
from nos_repro.optim.factory import make_optimizer, make_schedule
from nos_repro.tasks.facts.nasnet import NASNetSettings
from nos_repro.tasks.nasnet import NASNetTask
from nos_repro.tasks.nasnet_data import PhotographBatch
from tests.conftest import ROOT
from tests.experiments import replicated
from tests.tasks.resuming import stopped_and_whole

TINY: dict[str, Any] = {
    "data": "digits", "classes": 10, "size": 32, "stem": "cifar", "cells": 1, "filters": 24,
    "batch_size": 16, "replicas": 2, "steps_per_epoch": 4, "auxiliary": 0.0, "norm_decay": 0.8,
}  # fmt: skip
FOUR: dict[str, Any] = {"replicas": 4, "dropout": 0.0}
FEW: dict[str, Any] = {
    **TINY, "data": "few", "classes": 2, "stem": "imagenet", "filters": 96, "batch_size": 4,
    "steps_per_epoch": None,
}  # fmt: skip


def tiny(**changes: Any) -> NASNetTask:
    torch.manual_seed(0)
    return NASNetTask(NASNetSettings(**{**TINY, **changes}))


def batch(images: int = 16, classes: int = 10, size: int = 32) -> PhotographBatch:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (images, 3, size, size), generator=generator)
    labels = torch.randint(0, classes, (images,), generator=generator)
    return PhotographBatch(pixels.to(torch.uint8), labels, torch.tensor(7))


def few_photographs(folder: Path, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 5), ("val", 3)):
        for name in classes:
            (folder / "few" / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = torch.randint(0, 256, (40, 36, 3), generator=generator).to(torch.uint8)
                path = folder / "few" / part / name / f"{name}_{k}.JPEG"
                Image.fromarray(pixels.numpy()).save(path)
    return folder


def silence(network: nn.Module) -> None:
    for name, weight in network.named_parameters():
        if "classifier" in name:
            nn.init.zeros_(weight)


@pytest.mark.parametrize("classes", [10, 1000])
def test_logits_of_zeros_lose_ln_of_the_classes(classes: int) -> None:
    task = tiny(classes=classes, auxiliary=0.4, dropout=0.0)
    silence(task.model)
    silence(task.averaged)
    loss = task.training_step(batch(classes=classes))
    assert loss.item() == pytest.approx(1.4 * math.log(classes), rel=1e-6)
    task.eval()
    sums = {k: float(v) for k, v in task.evaluation_sums(batch(classes=classes)).items()}
    assert task.metrics(sums)["loss"] == pytest.approx(math.log(classes), rel=1e-6)


def test_the_loss_is_smoothed_cross_entropy_and_the_auxiliary_one_at_its_weight() -> None:
    task = tiny(auxiliary=0.4, dropout=0.0, replicas=1)
    given = batch()
    scaled = given.images.float() / 127.5 - 1
    assert scaled.min() == -1
    assert scaled.max() == 1

    def smoothed(logits: Tensor) -> Tensor:
        target = 0.9 * nn.functional.one_hot(given.labels, 10) + 0.1 / 10
        return -(target * logits.log_softmax(1)).sum(1).mean()

    logits, second = task.model(scaled)
    assert second is not None
    torch.testing.assert_close(task.training_step(given), smoothed(logits) + 0.4 * smoothed(second))


def test_top_1_and_top_5_are_counted_as_defined() -> None:
    task = tiny().eval()
    given = batch()
    sums = {k: float(v) for k, v in task.evaluation_sums(given).items()}
    order = task(given.images).argsort(dim=1, descending=True).tolist()
    places = [row.index(int(y)) for row, y in zip(order, given.labels, strict=True)]
    measured = task.metrics(sums)
    assert measured["accuracy"] == pytest.approx(100 * sum(p == 0 for p in places) / 16)
    assert measured["top5_accuracy"] == pytest.approx(100 * sum(p < 5 for p in places) / 16)


@pytest.mark.parametrize("optimizer", ["rmsprop-tf", "powersign-cd", "addsign-ld"])
def test_the_average_is_a_loop_by_hand_with_tensorflows_warm_up(optimizer: str) -> None:
    torch.manual_seed(0)

    def make(groups: Any) -> Any:
        made = make_optimizer(optimizer, groups, lr=0.05, weight_decay=0.01, total_steps=6)
        return made, make_schedule("cosine", made, total_steps=6)

    task = NASNetTask(NASNetSettings(**{**TINY, "average_decay": 0.3}), make)
    updating = task.configure_optimizers()["optimizer"]
    by_hand = {name: value.clone() for name, value in task.model.state_dict().items()}
    for t in range(1, 5):
        updating.zero_grad()
        task.training_step(batch()).backward()
        updating.step()
        decay = min(0.3, (1 + t) / (10 + t))
        for name, value in task.model.state_dict().items():
            by_hand[name] = decay * by_hand[name] + (1 - decay) * value
    assert min((1 + t) / (10 + t) for t in range(1, 5)) < 0.3 < 5 / 14
    for name, value in task.averaged.state_dict().items():
        torch.testing.assert_close(value, by_hand[name], msg=name)
    logits = task.averaged.eval()(batch().images / 127.5 - 1)[0]
    torch.testing.assert_close(task(batch().images), logits)


def test_weight_decay_leaves_norms_and_biases_alone() -> None:
    def make(groups: Any) -> Any:
        made = make_optimizer("sgd", groups, lr=0.5, weight_decay=0.1)
        return made, make_schedule("constant", made, total_steps=1)

    task = NASNetTask(NASNetSettings(**TINY), make)
    updating = task.configure_optimizers()["optimizer"]
    before = {name: p.clone() for name, p in task.model.named_parameters()}
    for parameter in task.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    updating.step()
    for name, p in task.model.named_parameters():
        shrinks = p.ndim > 1
        torch.testing.assert_close(p, before[name] * (0.95 if shrinks else 1.0), msg=name)


def gradients(task: NASNetTask, given: PhotographBatch) -> tuple[Tensor, list[Tensor]]:
    task.zero_grad()
    loss = task.training_step(given)
    loss.backward()
    return loss.detach(), [p.grad for p in task.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("channels_last", [False, True])
def test_replicas_in_sequence_or_at_once_are_the_mean_of_separate_replicas(
    at_once: int, channels_last: bool
) -> None:
    """Loss, gradient and statistics of a batch of 4 replicas, against 4 steps of one."""
    given, settings = batch(), {"dropout": 0.0, "norm_decay": 0.0, "auxiliary": 0.4}
    more = {"replicas_at_once": at_once, "channels_last": channels_last}
    together = tiny(**settings, replicas=4, **more).double()
    loss, found = gradients(together, given)
    losses, alone, means = [], [], []
    for part in range(4):
        one = tiny(**settings, batch_size=4, replicas=1).double()
        own = slice(4 * part, 4 * part + 4)
        value, parts = gradients(
            one, PhotographBatch(given.images[own], given.labels[own], given.classes)
        )
        losses.append(value)
        alone.append(parts)
        means.append(one.model.stem_norm.mean)
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    for whole, parts in zip(found, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.stack(parts).mean(0))
    torch.testing.assert_close(together.model.stem_norm.mean, torch.stack(means).mean(0))


def test_replicas_at_once_launch_a_fraction_of_the_kernels() -> None:
    settings = {**TINY, "batch_size": 16, "replicas": 8}
    alone = nasnet_operations({**settings, "replicas_at_once": 1})
    assert nasnet_operations({**settings, "replicas_at_once": 8}) < alone / 4


def test_running_statistics_move_as_if_every_replica_had_moved_them_in_turn() -> None:
    """The mean over all orders of TensorFlow's moves, one order after the other."""
    given, settings = batch(), {"dropout": 0.0, "norm_decay": 0.7}
    together = tiny(**settings, replicas=4).double()
    before = together.model.stem_norm.mean.clone()
    together.training_step(given)
    alone = []
    for part in range(4):
        own = slice(4 * part, 4 * part + 4)
        one = tiny(**{**settings, "norm_decay": 0.0}, batch_size=4, replicas=1).double()
        one.training_step(PhotographBatch(given.images[own], given.labels[own], given.classes))
        alone.append(one.model.stem_norm.mean)
    ends = []
    for order in itertools.permutations(alone):
        running = before
        for mean in order:
            running = 0.7 * running + 0.3 * mean
        ends.append(running)
    torch.testing.assert_close(together.model.stem_norm.mean, torch.stack(ends).mean(0))


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    """Gradients, statistics and averages of 4 replicas, by one process and by two real ones."""
    settings = json.loads(json.dumps(dataclasses.asdict(NASNetSettings(**TINY | FOUR))))
    plan = {"name": "both", "trial": {"task": "nasnet", "task_settings": settings, "lr": 0.001,
            "optimizer": "sgd", "training": {"epochs": 2, "gradient_norm": 10.0}}}  # fmt: skip
    case = {"world": 2, "trouble": "", "plan": [plan]}
    (tmp_path / "cases.json").write_text(json.dumps({"pair": case}))
    (tmp_path / "pair").mkdir()
    subprocess.run(
        [sys.executable, "-m", "tests.experiments.replicated", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300, check=True,
    )  # fmt: skip
    pair, alone = tmp_path / "pair" / "both", tmp_path / "alone"
    errors = [path.read_text() for path in (tmp_path / "pair").glob("error.*")]
    assert (json.loads((tmp_path / "statuses.json").read_text()), errors) == ({"pair": [0, 0]}, [])
    run_trial(replicated.trial(**plan["trial"]), alone, Conditions(tmp_path))
    begin = build_task(replicated.trial(**plan["trial"]), Conditions(tmp_path))[0].state_dict()
    own, theirs = (
        torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for folder in (alone, pair)
    )
    assert int(own["updates"]) == 8
    for kind in ("model", "averaged"):
        for part in (("mean", "variance"), ("weight", "bias")):
            names = [n for n in own if n.startswith(kind) and n.rpartition(".")[2] in part]
            moved, apart = (
                torch.cat([(own[n] - other[n]).flatten() for n in names]).norm()
                for other in (begin, theirs)
            )
            assert apart < 1e-4 * moved, (kind, part)


def test_only_factorisations_of_the_papers_batch_are_accepted(tmp_path: Path) -> None:
    settings = NASNetSettings(**{**TINY, "batch_size": 800, "replicas": 50})
    data = NASNetTask.make_data(settings, data_dir=tmp_path, seed=0)
    whole = next(data.train_batches(0))
    for world in (1, 2, 5, 10, 25, 50):
        shares = [next(data.train_share(0, 0, rank, world)) for rank in range(world)]
        assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
        assert {len(share.labels) // 16 for share in shares} == {50 // world}
    with pytest.raises(ConfigError, match=r"8 processes cannot share 50 replicas of 16 images"):
        data.train_share(0, 0, 0, 8)
    with pytest.raises(ConfigError, match=r"task\.batch_size must be a multiple of the 50 repl"):
        NASNetSettings(batch_size=1610)


def test_table_3_trains_as_long_as_the_paper_on_as_many_images(root: Path) -> None:
    study = load_study(root / "configs" / "table3.yaml")
    assert study.training.epochs * study.task["steps_per_epoch"] == 250_000
    assert study.task["batch_size"] == 50 * 32
    assert study.task["replicas"] == 50


@pytest.mark.slow
def test_a_run_stopped_inside_an_epoch_and_resumed_is_the_run_that_never_stopped(
    tmp_path: Path,
) -> None:
    few_photographs(tmp_path)  # 10 of them: an epoch is two updates
    trial = Trial(
        task="nasnet",
        task_settings=json.loads(json.dumps(dataclasses.asdict(NASNetSettings(**FEW)))),
        optimizer="addsign-ld",
        lr=0.1,
        weight_decay=4e-5,
        schedule="cosine",
        training=Training(epochs=3, gradient_norm=10.0),
    )

    _, whole = stopped_and_whole(trial, tmp_path, tmp_path, steps=3)
    assert "val_top5_accuracy" in whole.history[-1]


def test_steps_continue_through_the_passes_and_every_pass_shows_every_image_once(
    tmp_path: Path,
) -> None:
    settings = NASNetSettings(**{**TINY, "batch_size": 400, "replicas": 1, "steps_per_epoch": 2})
    data = NASNetTask.make_data(settings, data_dir=tmp_path, seed=0)
    plain = NASNetTask.make_data(
        dataclasses.replace(settings, steps_per_epoch=None), data_dir=tmp_path, seed=0
    )
    assert plain.steps_per_epoch == 3
    ring = [b.images for epoch in range(3) for b in data.train_batches(epoch)]
    passes = [b.images for walk in range(2) for b in plain.train_batches(walk)]
    assert all(torch.equal(own, other) for own, other in zip(ring, passes, strict=True))


def test_another_number_of_classes_than_the_checkpoints_is_one_clear_error() -> None:
    state = tiny().state_dict()
    with pytest.raises(DataError, match=r"(?s)has 10 classes.*is 12.*task\.classes=10"):
        tiny(classes=12).load_state_dict(state)


def test_other_classes_than_the_checkpoints_are_one_clear_error(tmp_path: Path) -> None:
    settings = NASNetSettings(**FEW)
    task = NASNetTask(settings)
    data = NASNetTask.make_data(settings, data_dir=few_photographs(tmp_path / "a"), seed=0)
    task.training_step(next(data.train_batches(0)))
    resumed = NASNetTask(settings)
    resumed.load_state_dict(task.state_dict())
    birds = few_photographs(tmp_path / "b", ("bird", "dog"))
    other = NASNetTask.make_data(settings, data_dir=birds, seed=0)
    with pytest.raises(DataError, match="not those that the checkpoint was trained with"):
        resumed.training_step(next(other.train_batches(0)))


# fmt: off
OF_OTHER_DATA = [
    ({"classes": 3},                      r"task\.classes must be 2, .* 'few' has in .*, got 3"),
    ({"batch_size": 12, "replicas": 1},   r"task\.batch_size must be at most 10, the training"),
    ({"data": "digits", "size": 64},      r"task\.size must be 32 for 'digits', got 64"),
]
IMPOSSIBLE = [
    ({"filters": 1000},        r"task\.filters must be a multiple of 96 for the stem 'imagenet'"),
    ({"stem": "mnist"},        r"task\.stem must be one of: imagenet cifar, got 'mnist'"),
    ({"size": 64},             r"task\.auxiliary must be 0: an inner map of images of 64 pixels"),
    ({"dropout": 1.0},         r"task\.dropout must be at least 0 and below 1, got 1\.0"),
    ({"replicas": 0},          r"task\.replicas must be at least 1, got 0"),
    ({"steps_per_epoch": 0},   r"task\.steps_per_epoch must be at least 1, got 0"),
    ({"precision": "16"},      r"task\.precision must be one of: 32 bf16, got '16'"),
]
# fmt: on


@pytest.mark.parametrize(("changes", "message"), OF_OTHER_DATA)
def test_settings_of_other_data_are_refused_before_the_first_step(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    settings = NASNetSettings(**{**FEW, **changes})
    data = NASNetTask.make_data(settings, data_dir=few_photographs(tmp_path), seed=0)
    with pytest.raises(ConfigError, match=message):
        data.prepare()


@pytest.mark.parametrize(("values", "message"), IMPOSSIBLE)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NASNetSettings(**values)


def test_bfloat16_keeps_float32_weights_and_loss() -> None:
    task = tiny(precision="bf16", channels_last=True)
    loss, found = gradients(task, batch())
    assert loss.dtype == torch.float32
    assert {gradient.dtype for gradient in found} == {torch.float32}
    assert all(gradient.isfinite().all() for gradient in found)
