"""An optimizer's update against torch's own fused Adam, interleaved."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch.nn import Parameter

from nos_repro.bench.device_check.frame import Checking, CheckRow
from nos_repro.bench.optimizer_step import BIG, Shape, wide_resnet_shapes
from nos_repro.bench.runner import Ratio, interleave
from nos_repro.optim.factory import make_optimizer

ADAM = "torch's Adam, fused"
# fmt: off
SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "torch's SGD, fused":     ("torch.optim.SGD", {"fused": True}),
    "PowerSign, fused":       ("powersign", {"fused": True}),
    "PowerSign, foreach":     ("powersign", {"fused": False, "foreach": True}),
    "AddSign-ld, fused":      ("addsign-ld", {"fused": True}),
    "RMSProp (TensorFlow's)": ("rmsprop-tf", {}),
    "a rule that drops, fused": ("rule: drop(g, 0.3) * exp(sign(g) * sign(m))", {"fused": True}),
}
# fmt: on
QUICK_SUBJECTS = 2
ROUNDS = 7
CALLS = {"cuda": 20, "cpu": 1}
"""Updates between two waits for the device."""


def updates(check: Checking) -> Iterator[CheckRow]:
    """Milliseconds of an update, and its ratio to Adam's in the same round. 33 M parameters take a
    GPU's memory: on a CPU `bench optimizer-step` times them."""
    sets = {"33 M parameters": BIG} if check.cuda else {}
    sets["WRN-40-4's tensors"] = wide_resnet_shapes()
    if check.quick:
        sets = {"WRN-10-1's tensors": wide_resnet_shapes(10, 1)}
    subjects = dict(list(SUBJECTS.items())[: QUICK_SUBJECTS if check.quick else None])
    for what, shapes in check.within(sets.items()):
        steps = {ADAM: _steps(check, shapes, "torch.optim.Adam", {"fused": True})}
        for name, (optimizer, options) in subjects.items():
            steps[name] = _steps(check, shapes, optimizer, options)
        times = interleave(steps, rounds=2 if check.quick else ROUNDS, warmup=2)
        for name, taken in times.items():
            ratio = Ratio.between(times, name, ADAM)
            values = {
                "ms per update": 1e3 * median(taken) / CALLS[check.device],
                "over Adam": ratio.median,
                "from": ratio.low,
                "to": ratio.high,
            }
            yield CheckRow(f"{what}: {name}", values)
        steps.clear()
        gc.collect()


def _steps(
    check: Checking, shapes: list[Shape], optimizer: str, options: dict[str, Any]
) -> Callable[[], None]:
    """A few updates, and the wait for them."""
    params = [Parameter(0.1 * torch.randn(shape, device=check.device)) for shape in shapes]
    for param in params:
        param.grad = 0.1 * torch.randn_like(param)
    made = make_optimizer(optimizer, params, lr=1e-4, total_steps=10**6, **options)

    def call() -> None:
        for _ in range(CALLS[check.device]):
            made.step()
        check.wait()

    return call
