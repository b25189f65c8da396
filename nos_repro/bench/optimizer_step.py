"""The optimizer's step against `torch.optim.Adam(fused=True)`, and against streaming its data."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch.nn import Parameter

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.optim.groups import program_of
from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.rules.catalog import CATALOG

Shape: TypeAlias = tuple[int, ...]

POWERSIGN = "exp(sign(g) * sign(m)) * g"
FIRST_STEP = """
import time
from nos_repro.bench.optimizer_step import POWERSIGN, rule_step

step = rule_step(POWERSIGN, [(4096, 16)])
start = time.perf_counter()
step()
print(time.perf_counter() - start)
"""
BIG: list[Shape] = [(2048, 2048)] * 8  # 33,554,432 parameters


def wide_resnet_shapes(depth: int = 40, width: int = 4) -> list[Shape]:
    """The parameters of WRN-40-4 (8,949,210 in 116 tensors)."""
    shapes: list[Shape] = [(16, 3, 3, 3)]
    channels = 16
    for out in (16 * width, 32 * width, 64 * width):
        for _ in range((depth - 4) // 6):
            shapes += [(channels,)] * 2 + [(out, channels, 3, 3)] + [(out,)] * 2
            shapes += [(out, out, 3, 3)]
            shapes += [(out, channels, 1, 1)] if channels != out else []
            channels = out
    return [*shapes, (channels,), (channels,), (10, channels), (10,)]


@BENCHMARKS.register("optimizer-step")
def optimizer_step() -> Iterator[Measurement]:
    """Ratios measured in one process: 33 M parameters, WRN-40-4, and the rules of Table 6."""
    yield from _first_steps()
    for threads in sorted({torch.get_num_threads(), 1}, reverse=True):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        yield from _against_adam(threads)
        torch.set_num_threads(before)
    yield from _against_streaming()


def _first_steps() -> Iterator[Measurement]:
    """The seconds of a first fused step, in a process that compiles and in one that loads."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache, "TORCHINDUCTOR_CACHE_DIR": cache}
        for what, budget in (("nothing is compiled yet", 5.0), ("another process has been", 0.5)):
            done = subprocess.run(
                [sys.executable, "-c", FIRST_STEP],
                env=environment, check=True, capture_output=True, encoding="utf-8",
            )  # fmt: skip
            seconds = Ratio.of([float(done.stdout)], "s")
            yield Measurement(f"first PowerSign step where {what}, s", seconds, budget)


def _against_adam(threads: int) -> Iterator[Measurement]:
    for what, shapes, rounds, budget in (
        ("33 M parameters", BIG, 15, 0.75),
        ("WRN-40-4", wide_resnet_shapes(), 60, 0.9),
    ):
        steps = {
            "adam": adam_step(shapes),
            "powersign": rule_step(POWERSIGN, shapes),
            "foreach": rule_step(POWERSIGN, shapes, fused=False),
        }
        times = interleave(steps, rounds, warmup=3)
        title = f"{what}, {threads} thread{'s' if threads > 1 else ''}: PowerSign"
        yield Measurement(
            f"{title} fused / Adam fused", Ratio.between(times, "powersign", "adam"), budget
        )
        yield Measurement(f"{title} foreach / Adam fused", Ratio.between(times, "foreach", "adam"))


def _against_streaming() -> Iterator[Measurement]:
    yield from _parts()
    rules = {str(e.rule): e for name, e in CATALOG.items() if name.startswith("table6-")}
    for name, rule in ((entry.name, entry.rule) for entry in rules.values()):
        tensors = 2 + len(rule.averages)
        steps = {
            "rule": rule_step(str(rule), BIG[:4]),
            "stream": stream(tensors, sum(map(math.prod, BIG[:4]))),
        }
        times = interleave(steps, rounds=11, warmup=2)
        budget = 2.0 if program_of(str(rule)).sites else 1.3
        yield Measurement(
            f"{name}, {rule} / its bytes", Ratio.between(times, "rule", "stream"), budget
        )


def _parts() -> Iterator[Measurement]:
    """What one function adds to the update `m`, as a share of the time of the bytes."""
    rules = {"an exponential": "exp(m)", "a drop": "drop(m, 0.3)", "noise": "m * (1 + noise)"}
    steps = {what: rule_step(rule, BIG[:4]) for what, rule in rules.items()}
    steps |= {"m": rule_step("m", BIG[:4]), "stream": stream(3, sum(map(math.prod, BIG[:4])))}
    times = interleave(steps, rounds=11, warmup=2)
    for what in rules:
        rounds = zip(times[what], times["m"], times["stream"], strict=True)
        added = Ratio.of([(whole - plain) / bytes_ for whole, plain, bytes_ in rounds])
        yield Measurement(f"what {what} adds to m / its bytes", added)


def adam_step(shapes: list[Shape]) -> Callable[[], object]:
    """A step of torch's fused Adam."""
    return torch.optim.Adam(_parameters(shapes), lr=1e-4, fused=True).step


def rule_step(rule: str, shapes: list[Shape], *, fused: bool = True) -> Callable[[], object]:
    """A step of a rule."""
    parameters = _parameters(shapes)
    return RuleOptimizer(parameters, rule, 1e-4, total_steps=10**6, fused=fused).step


def stream(tensors: int, elements: int) -> Callable[[], object]:
    """Reads what a step reads and writes what it writes, once, and does almost nothing else.

    The gradient is read; the weights and the averages are read and written. torch's own
    `add_(x, y)` reads two tensors and writes one; `mul_` reads one and writes one.
    """
    gradient = torch.randn(elements)
    others = [torch.zeros(elements) for _ in range(tensors - 1)]

    def run() -> None:
        others[0].add_(gradient)
        for x in others[1:]:
            x.mul_(0.9)

    return run


def _parameters(shapes: list[Shape]) -> list[Parameter]:
    parameters = [Parameter(0.1 * torch.randn(shape)) for shape in shapes]
    for p in parameters:
        p.grad = 0.1 * torch.randn_like(p)
    return parameters
