"""What a training step makes the host wait for on a GPU, counted without one (`bench.waits`).

A step is the loop's own, with clipped gradients and every kind of optimizer. It is counted after a
first one, which reads once what a loaded state belongs to. The loop itself looks at the losses
every `training.CHECK_EVERY` steps, which is one wait for all of them.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.cpu import CPUAccelerator
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from torch.nn import Parameter

from nos_repro.bench.optimizer_step import wide_resnet_shapes
from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio
from nos_repro.bench.waits import Waits, counted
from nos_repro.experiments.training import Run
from nos_repro.experiments.trial import Training
from nos_repro.optim import fused
from nos_repro.optim.factory import make_optimizer, make_schedule
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import TaskData
from nos_repro.tasks.facts.nasnet import NASNetSettings
from nos_repro.tasks.nasnet import NASNetTask
from nos_repro.tasks.nasnet_data import PhotographBatch

# fmt: off
TEXT = {"data": "pydoc", "hidden": 24, "embedding": 16, "batch_size": 8}
PAIRS = {"data": "numbers", "train_pairs": 96, "vocabulary": 60, "layers": 2, "width": 16,
         "batch_size": 24}
PHOTOGRAPHS = {"data": "digits", "classes": 10, "size": 32, "stem": "cifar", "cells": 1,
               "filters": 24, "batch_size": 64, "replicas": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    # embedded data, small models: neither decides where a step waits
    "convnet":                   ("convnet",     {"data": "digits"}),
    "gnmt":                      ("gnmt",        PAIRS),
    "gnmt, loss per sentence":   ("gnmt",        {**PAIRS, "loss_per": "sentence"}),
    "gnmt, bf16":                ("gnmt",        {**PAIRS, "precision": "bf16"}),
    "mlp":                       ("mlp",         {"data": "digits"}),
    "nasnet":                    ("nasnet",      PHOTOGRAPHS),
    "ptb_lstm":                  ("ptb_lstm",    TEXT),
    "ptb_lstm, Melis' model":    ("ptb_lstm",    {**TEXT, "model": "melis"}),
    "ptb_lstm, bf16":            ("ptb_lstm",    {**TEXT, "precision": "bf16"}),
    "rosenbrock":                ("rosenbrock",  {}),
    "wide_resnet":               ("wide_resnet", {"data": "digits", "depth": 10, "width": 1}),
}
OPTIMIZERS = (
    "sgd", "momentum", "adam", "rmsprop", "rmsprop-tf", "powersign", "powersign-cd", "addsign-ld",
    "rule: drop(g, 0.3) * exp(sign(g) * sign(m))", "rule: m * (1 + noise)",
)
# fmt: on
RULES = ("powersign", "addsign", "rule: ")
STEPS = 10


class _OnMeta(CPUAccelerator):
    """Lets Lightning's loop run on the meta device, which is no CPU to it."""

    def setup_device(self, device: torch.device) -> None:
        pass


def meta_run(
    name: str, settings: dict[str, Any], optimizer: str = "sgd", data: TaskData | None = None
) -> Run:
    """The run of a task on the meta device, with its gradient clipped; on its own data by
    default."""
    cls = TASKS.find(name)
    chosen = cls.Settings(**settings)

    def make(params: Any) -> Any:
        made = make_optimizer(optimizer, params, lr=0.1, total_steps=STEPS)
        return made, make_schedule("cosine", made, total_steps=STEPS)

    if data is None:
        with tempfile.TemporaryDirectory() as folder:
            data = cls.make_data(chosen, data_dir=Path(folder), seed=0)
            data.prepare()
    strategy = SingleDeviceStrategy(torch.device("meta"))
    fabric = Fabric(accelerator=_OnMeta(), strategy=strategy, plugins=[LightningEnvironment()])
    run = Run(cls(chosen, make).to("meta"), data, Training(gradient_norm=5.0), fabric)
    run.task.train()
    return run


def step_waits(name: str, settings: dict[str, Any], optimizer: str = "sgd") -> Waits:
    """What the second step of a task waits for."""
    return second_step_waits(meta_run(name, settings, optimizer))


def second_step_waits(run: Run) -> Waits:
    """What the second step of a run on the meta device waits for."""
    run.data.reside(run.fabric.device)
    batches = run.data.train_batches(0)
    with counted("meta"):
        run.train_step(run.to_device(next(batches)))
    batch = run.to_device(next(batches))
    with counted("meta") as waits:
        run.train_step(batch)
    return waits


def update_waits(optimizer: str, **options: Any) -> Waits:
    """What an optimizer's second update of three tensors waits for. With `fused=True` its kernels
    do nothing: what is counted is how they are called."""
    waits, _ = _second_update([(64, 64), (64,), (3, 3, 3)], optimizer, options)
    return waits


def kernel_calls(optimizer: str) -> int:
    """How often a fused update of WRN-40-4's 116 tensors calls a compiled kernel."""
    _, calls = _second_update(wide_resnet_shapes(), optimizer, {"fused": True})
    return calls


def _second_update(
    shapes: list[tuple[int, ...]], optimizer: str, options: dict[str, Any]
) -> tuple[Waits, int]:
    """What the second update of parameters of these shapes waits for, and its kernels' calls."""
    params = [Parameter(torch.zeros(shape, device="meta")) for shape in shapes]
    made = make_optimizer(optimizer, params, lr=0.1, total_steps=STEPS, **options)
    for param in params:
        param.grad = torch.zeros_like(param)
    calls: list[object] = []
    devices, note = (*fused.DEVICES, "meta"), lambda *given: lambda *inputs: calls.append(inputs)
    kernels = mock.patch.multiple(fused, DEVICES=devices, compile_kernel=note, _COMPILED={})
    with kernels:
        with counted("meta"):
            made.step()
        calls.clear()
        with counted("meta") as waits:
            made.step()
    return waits, len(calls)


def nasnet_operations(settings: dict[str, Any]) -> int:
    """The operations, each about one kernel, of the loss and gradient of an update of NASNet."""
    chosen = NASNetSettings(**settings)
    task = NASNetTask(chosen).to("meta").train()
    shape = chosen.batch_size, 3, chosen.size, chosen.size
    batch = PhotographBatch(
        torch.empty(shape, dtype=torch.uint8, device="meta"),
        torch.empty(chosen.batch_size, dtype=torch.int64, device="meta"),
        torch.tensor(0, device="meta"),
    )
    with counted("meta") as found:
        torch.autograd.backward(task.training_step(batch))
    return found.operations


@BENCHMARKS.register("device-counts")
def device_counts() -> Iterator[Measurement]:
    """Synchronisations and blocking copies per step of each task and optimizer, and the kernels of
    an update of NASNet-A mobile, its 50 replicas one after the other and ten at once."""
    alone, together = (nasnet_operations({"replicas_at_once": count}) for count in (1, 10))
    yield Measurement("operations in an update of NASNet-A mobile", Ratio.of([alone], ""))
    yield Measurement("the same, ten replicas at once", Ratio.of([together], ""))
    counts: dict[str, Callable[[], Waits]] = {}
    for what, (name, settings) in MODELS.items():
        counts[f"a step of {what}"] = functools.partial(step_waits, name, settings)
    for rule in OPTIMIZERS:
        counts[f"an update by {rule}"] = functools.partial(update_waits, rule)
        if rule.startswith(RULES):
            calls = Ratio.of([kernel_calls(rule)], "")
            yield Measurement(f"kernel calls in a fused update of 116 tensors by {rule}", calls)
            fuse = functools.partial(update_waits, rule, fused=True)
            counts[f"a fused update by {rule}"] = fuse
            graph = functools.partial(update_waits, rule, fused=True, capturable=True)
            counts[f"a fused update by {rule}, capturable"] = graph
    for what, count in counts.items():
        waits = count()
        for kind in ("synchronisations", "copies"):
            number = sum(getattr(waits, kind).values())
            yield Measurement(f"{kind} in {what}", Ratio.of([number], ""), at_most=0)
