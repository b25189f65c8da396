"""The source of a fused kernel, run as it is or captured by `torch.compile`, without a compiler."""

import contextlib
import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._inductor.utils import fresh_cache, run_and_get_code
from torch.nn import Parameter

from nos_repro import RuleOptimizer, make_schedule
from nos_repro.optim import fused
from nos_repro.optim.families import of_family
from nos_repro.optim.kernel import Kernel
from nos_repro.rules.families import Constant, Family


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are captured whole, as for a compilation, and run eagerly."""

    def capture(kernel: Kernel, example: tuple[Any, ...], _: Mapping[str, Any]) -> Kernel:
        compiled: Kernel = torch.compile(kernel, fullgraph=True, backend="eager")
        with torch.no_grad():
            compiled(*example)
        return compiled

    monkeypatch.setattr(fused, "compile_kernel", capture)
    monkeypatch.setattr(fused, "native_kernel", lambda kind: None)
    monkeypatch.setattr(fused, "_COMPILED", {})
    torch._dynamo.reset()


def update(rule: str, gradient: list[float], **execution: bool) -> Tensor:
    """What the rule takes from weights of -0.0."""
    p = Parameter(torch.full((16 * len(gradient),), -0.0))
    p.grad = torch.tensor(gradient * 16)
    RuleOptimizer([p], rule, 1.0, total_steps=5, seed=1, **execution).step()
    return p.detach()


@pytest.mark.usefixtures("captured")
def test_a_process_may_have_more_kernels_than_a_function_may_have_recompilations() -> None:
    for i in range(1, 11):
        assert torch.equal(
            update(f"g * {i}", [1.0, 2.0], fused=True)[:2], torch.tensor([-i, -2.0 * i])
        )


def test_threads_that_train_with_one_rule_compile_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that told inductor of the draws at once would take them away from each other."""
    together, calls = threading.Barrier(4), []

    def compile_slowly(kernel: Kernel, example: Any, options: Any) -> Kernel:
        calls.append(kernel)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(timeout=0.3)
        return kernel

    monkeypatch.setattr(fused, "compile_kernel", compile_slowly)
    monkeypatch.setattr(fused, "native_kernel", lambda kind: None)
    monkeypatch.setattr(fused, "_COMPILED", {})
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(update, "g + drop(g, 0.3)", [1.0, 2.0], fused=True) for _ in range(4)]
    first, *others = (run.result() for run in runs)
    assert len(calls) == 1
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.usefixtures("captured")
def test_a_schedule_compiles_nothing_again() -> None:
    """Neither the rate nor a decay is part of a kernel, also for the family of a plug-in."""
    family = Family("scaled", "Scaled", "scale * f * m + drop(g, 0.2)", (Constant("scale", 2.0),))
    p = Parameter(torch.zeros(64, 16))
    p.grad = torch.ones_like(p)
    optimizer = of_family(family, [p], decay="ld", scale=3.0, lr=0.1, total_steps=6, fused=True)
    schedule = make_schedule("cosine", optimizer, total_steps=6)
    optimizer.step()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(4):
            schedule.step()
            optimizer.step()
        optimizer.param_groups[0]["lr"] = torch.tensor(0.01)
        optimizer.step()
    assert len(fused._COMPILED) == 1


@pytest.mark.usefixtures("captured")
@pytest.mark.parametrize("rule", ["drop(neg(0), 0.5)", "neg(0) * ld", "drop(neg(ld - 1), 0.5)"])
def test_a_constant_keeps_the_sign_of_its_zero(rule: str) -> None:
    plain, kernel = (
        update(rule, [1.0, 2.0], **execution) for execution in ({"foreach": False}, {"fused": True})
    )
    assert torch.equal(plain.signbit(), kernel.signbit())


@pytest.mark.slow
def test_a_power_is_nan_for_negative_infinity_as_it_is_without_a_compiler() -> None:
    gradient = [-torch.inf, torch.inf, -0.0, 4.0]
    plain, compiled = (
        update("g ** -0.5", gradient, **execution)
        for execution in ({"foreach": False}, {"fused": True})
    )
    assert torch.allclose(plain, compiled, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["g + 0.1 * noise", "drop(m, 0.3) + drop(g, 0.2)"])
def test_a_rule_that_draws_is_compiled_to_one_loop_per_tensor(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut into several, it would pass the generator's 64-bit words through memory."""
    monkeypatch.setattr(fused, "native_kernel", lambda kind: None)
    monkeypatch.setattr(fused, "_COMPILED", {})
    p = Parameter(torch.zeros(64, 16))
    p.grad = torch.ones_like(p)
    optimizer = RuleOptimizer([p], rule, 1.0, fused=True)
    with fresh_cache():
        _, (code,) = run_and_get_code(optimizer.step)
    assert code.count("for(int64_t x0=") == 2  # the kernel updates two tensors
    assert "int64_t* out_ptr" not in code


def updated_many(rule: str, **execution: bool) -> list[Tensor]:
    """23 parameters, of which 20 are small, after two updates."""
    shapes = [(300, 16), (64, 80), (4, 16, 5, 16), *[(k + 2, 16) for k in range(19)], (33,)]
    params = [Parameter(torch.linspace(-1, 1, math.prod(shape)).view(shape)) for shape in shapes]
    params[2].data = params[2].data.to(memory_format=torch.channels_last)
    params[5].data = params[5].data.t().contiguous().t()
    optimizer = RuleOptimizer(params, rule, 0.1, seed=2, **execution)
    for _ in range(2):
        for p in params:
            p.grad = p.detach().sin()
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_small_tensors_that_draw_are_updated_in_one_call(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own keys: as many calls as for a rule that does not draw, and one more."""
    calls: list[int] = []
    compile_kernel = fused.compile_kernel

    def count(kernel: Kernel, example: tuple[Any, ...], options: Any) -> Kernel:
        made = compile_kernel(kernel, example, options) if compiled else kernel

        def call(*inputs: Any) -> None:
            calls.append(len(inputs[0]))
            made(*inputs)

        return call

    monkeypatch.setattr(fused, "compile_kernel", count)
    monkeypatch.setattr(fused, "native_kernel", lambda kind: None)
    monkeypatch.setattr(fused, "_COMPILED", {})
    rule = "m + drop(g, 0.3) * noise"
    own, plain = updated_many(rule, fused=True), updated_many(rule, foreach=False)
    assert calls == [2, 2, 1] * 2
    for x, y in zip(own, plain, strict=True):
        torch.testing.assert_close(x, y)
