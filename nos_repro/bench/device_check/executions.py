"""The three executions of a rule: tensor by tensor, foreach, and fused; and the CPU's numbers."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from nos_repro.bench.device_check.frame import Checking, CheckRow, Value, failed, in_one_line
from nos_repro.errors import ConfigError
from nos_repro.optim.factory import make_optimizer

# fmt: off
RULES = (
    # signs, one that draws; decays, other averages, an exponential, more that draw, clipping
    "powersign", "rule: drop(g, 0.3) * exp(sign(g) * sign(m))",
    "powersign-cd", "addsign-ld", "rule: m * exp(v)", "rule: (1 + sign(g) * sign(m)) * adam",
    "rule: m * (1 + noise) * sigmoid(1e-4 * w)", "rule: drop(m, 0.1) / exp(g2)",
    "rule: clip(rmsprop, 1e-5) + drop(m, 0.3)",
)
QUICK = ((RULES[0], torch.float32), (RULES[1], torch.bfloat16))
SHAPES = ((64, 32, 3, 3), (33, 7), (5,), (128,), (10, 64))
UPDATES = 3
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}  # bfloat16: two units in the last place
# fmt: on


def executions(check: Checking) -> Iterator[CheckRow]:
    """Each rule's weights after a few updates, by each execution."""
    each = QUICK if check.quick else itertools.product(RULES, TOLERANCE)
    for rule, dtype in check.within(each):
        what = f"{rule.removeprefix('rule: ')}, {str(dtype).removeprefix('torch.')}"
        try:
            yield compared(check, what, rule, dtype)
        except Exception as error:  # noqa: BLE001 the other rules are compared
            yield failed(what, error)


def compared(check: Checking, what: str, rule: str, dtype: torch.dtype) -> CheckRow:
    """How far the executions of a rule are apart, and what they may be."""
    loop, _ = weights_after(rule, dtype, check.device, foreach=False, fused=False)
    foreach, _ = weights_after(rule, dtype, check.device, foreach=True, fused=False)
    apart = {"foreach - loop": difference(foreach, loop)}
    seconds: Value = None
    try:
        fused, seconds = weights_after(rule, dtype, check.device, fused=True)
        apart["fused - loop"] = difference(fused, loop)
    except ConfigError as error:  # without a compiler
        check.notes.append(f"{what}: {in_one_line(error)}")
    if check.cuda:
        there, _ = weights_after(rule, dtype, "cpu", foreach=False, fused=False)
        apart["loop - the CPU's"] = difference(loop, there)
    most = TOLERANCE[dtype]
    values = {**apart, "at most": most, "first fused update, s": seconds}
    return CheckRow(what, values, all(each <= most for each in apart.values()))


def weights_after(
    rule: str, dtype: torch.dtype, device: str, **execution: Any
) -> tuple[list[Tensor], float]:
    """The weights after a few updates, in float64 on the CPU, and the seconds of the first one: the
    same weights and gradients whatever the device."""
    draw = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=draw)).to(dtype).to(device)

    params = [Parameter(drawn(shape)) for shape in SHAPES]
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 1e-4, "total_steps": UPDATES, "seed": 0}
    optimizer = make_optimizer(rule, params, **options, **execution)
    seconds = []
    for _ in range(UPDATES):
        for param in params:
            param.grad = drawn(param.shape, 0.1)
        started = time.perf_counter()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return [param.detach().cpu().double() for param in params], seconds[0]


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest |x - y| / (1 + |y|) of their elements; infinite for what is not a number."""
    apart = [((x - y).abs() / (1 + y.abs())).max() for x, y in zip(a, b, strict=True)]
    largest = float(torch.stack(apart).max())  # NaN, if one is
    return math.inf if math.isnan(largest) else largest
