"""The kernel of a processor: compiled once, kept on disk, one call for all tensors."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from nos_repro import RuleOptimizer
from nos_repro.optim import fused, native
from nos_repro.optim.batch import Step
from nos_repro.optim.groups import program_of, step_of
from nos_repro.optim.kernel import kind_of
from nos_repro.optim.native_source import native_source
from nos_repro.rules.catalog import CATALOG

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or torch.backends.cpu.get_cpu_capability() not in native.CAPABILITIES,
    reason="needs a processor with AVX2, and Linux",
)
SHAPES = [(33, 7), (64, 64), (5,), (), (300,), (8, 4, 3, 3), (64,), (130, 258)]
EDGES = torch.tensor([0.0, -0.0, 1.5, -1.5, 1e-42, torch.inf, -torch.inf, torch.nan, 1e38, 88.9])


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No kernel is known yet, in this process or on disk; where kernels will be."""
    monkeypatch.setattr(fused, "_COMPILED", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nos_repro" / "kernels"


def updated(rule: str, dtype: torch.dtype = torch.float32, **options: Any) -> list[Tensor]:
    """Weights and averages after four updates, some of zeros, infinities and NaN."""
    generator = torch.Generator().manual_seed(0)
    params = [Parameter(torch.randn(s, generator=generator).to(dtype)) for s in SHAPES]
    params[5].data = params[5].data.to(memory_format=torch.channels_last)
    pairs = torch.cartesian_prod(EDGES, EDGES).to(dtype).repeat(4, 1)
    params.append(Parameter(pairs[:, 0].clone()))
    optimizer = RuleOptimizer(params, rule, 0.01, total_steps=9, seed=3, fused=True, **options)
    for k in range(4):
        for p in params[:-1]:
            p.grad = 0.1 * torch.randn(p.shape, generator=generator).to(dtype)
        params[-1].grad = pairs[:, 1].roll(k)
        optimizer.step()
    return [x for p in params for x in (p.detach(), *optimizer.state[p].values())][::1]


def same(a: list[Any], b: list[Any]) -> bool:
    """Equal to the bit, signs of zeros included, wherever they are not NaN."""

    def equal(x: Any, y: Any) -> bool:
        if not isinstance(x, Tensor):
            return bool(x == y)
        nans = x.isnan() == y.isnan()
        values = (x == y) & (x.signbit() == y.signbit())
        return bool((nans & (values | x.isnan())).all())

    return all(equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("rule", [
    "exp(ld * sign(g) * sign(m)) * g + log(g3)",
    "drop(m, 0.3) * sigmoid(w) + 0.1 * noise / v",
    "adam * clip(gamma, 0.1) - sqrt(g) ** cd + 2 * rmsprop",
])  # fmt: skip
def test_it_gives_the_bits_that_torchs_compiler_gives(
    rule: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dtype in (torch.float32, torch.float64):
        options = {"weight_decay": 0.01, "maximize": dtype == torch.float64}
        own = updated(rule, dtype, **options)
        assert {type(kernel) for kernel in fused._COMPILED.values()} == {native.NativeKernel}
        with monkeypatch.context() as patch:
            patch.setattr(fused, "_COMPILED", {})
            patch.setattr(fused, "native_kernel", lambda kind: None)
            assert same(own, updated(rule, dtype, **options))
        fused._COMPILED.clear()


def test_every_rule_of_the_catalogue_has_a_kernel_in_cpp() -> None:
    for entry in CATALOG.values():
        p = Parameter(torch.ones(4))
        optimizer = RuleOptimizer([p], entry.rule, 0.1, total_steps=9)
        assert source_of(optimizer, p) is not None, entry.name


@pytest.mark.parametrize("form", ["{0}**(sign(g) * sign(m)) * g", "({0} + sign(g) * sign(m)) * g",
                                  "clip(m, {0}) + {0} * exp(g)"])  # fmt: skip
def test_rules_that_differ_in_a_constant_share_a_kernel(form: str) -> None:
    p = Parameter(torch.ones(4))
    rules = [form.format(constant) for constant in ("2.5", "3", "10", "0.125")]
    sources = {source_of(RuleOptimizer([p], rule, 0.1), p) for rule in rules}
    assert len(sources) == 1
    assert None not in sources


def source_of(optimizer: RuleOptimizer, p: Parameter) -> str | None:
    step = first_step(optimizer.param_groups[0], p)
    return native_source(kind_of(step, p.dtype, p.device))


def first_step(group: dict[str, Any], p: Parameter) -> Step:
    return step_of(group, program_of(group["rule"]), 1, p.device)


def test_a_damaged_library_is_compiled_again(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = updated("g + drop(m, 0.3)")
    (library,) = fresh.glob("*.so")
    whole = library.read_bytes()
    for damaged in (b"", whole[:5000], whole[:300] + b"x" + whole[301:]):
        library.unlink()  # what a process has loaded must not change
        library.write_bytes(damaged)
        monkeypatch.setattr(fused, "_COMPILED", {})
        assert same(first, updated("g + drop(m, 0.3)"))
        assert native.is_whole(library)
    assert [path.name for path in fresh.iterdir()] == [library.name]


PROCESS = """
import sys, torch
from nos_repro import PowerSign
p = torch.nn.Parameter(torch.ones(64, 16))
p.grad = torch.ones_like(p)
optimizer = PowerSign([p], lr=0.1, fused=True)
optimizer.step()
assert "torch._inductor.compile_fx" not in sys.modules, "traced"
print(float(p[0, 0]))
"""


def test_two_processes_that_begin_at_once_and_a_later_one_share_a_library(fresh: Path) -> None:
    command = [sys.executable, "-c", PROCESS]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    (library,) = fresh.iterdir()
    made = library.stat().st_mtime_ns
    said.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(set(said)) == 1
    assert said[0].startswith("0.728")
    assert library.stat().st_mtime_ns == made


def test_all_tensors_are_updated_in_one_call_also_by_a_rule_that_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    call = native.NativeKernel._run
    monkeypatch.setattr(native.NativeKernel, "_run", lambda *a: calls.append(a) or call(*a))
    params = [Parameter(torch.ones(k + 2, 16)) for k in range(30)]
    for p in params:
        p.grad = torch.ones_like(p)
    RuleOptimizer(params, "g + drop(m, 0.3)", 0.1, fused=True).step()
    assert len(calls) == 1


def test_a_compiler_whose_name_does_not_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", 'g++ "')
    p = Parameter(torch.ones(4))
    group = RuleOptimizer([p], "g", 0.1).param_groups[0]
    assert native.native_kernel(kind_of(first_step(group, p), p.dtype, p.device)) is None


def test_without_a_home_a_kernel_is_made_for_the_process(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.parent.write_text("a file where the folder would be")
    assert same(updated("g + drop(m, 0.3)"), updated("g + drop(m, 0.3)"))
    assert {type(kernel) for kernel in fused._COMPILED.values()} == {native.NativeKernel}
