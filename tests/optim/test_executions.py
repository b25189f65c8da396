"""Reference, foreach and fused agree; the reference agrees with the rules' own meaning."""

import itertools
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from nos_repro import PowerSign, RuleOptimizer
from nos_repro.errors import ConfigError
from nos_repro.optim import compiler, fused, native
from nos_repro.optim.draws import keep, make_key, normal
from nos_repro.optim.program import lower
from nos_repro.optim.ternary import select_signs
from nos_repro.rules.catalog import CATALOG
from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.parse import parse
from nos_repro.rules.rule import Rule
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary, walk

TABLE6 = sorted({str(e.rule) for name, e in CATALOG.items() if name.startswith("table6-")})
MORE = [
    "1",
    "ld * cd",
    "g3 * rd10 + annealed_noise",
    "2 ** (cd3 * sign(g) * sign(m)) * gamma",
    "drop(1, 0.5) * g",
    "-sigmoid(neg(sign(g)) * 0.5) / m",
    "log(v) ** 2 - 1 / g",
]
SHAPES = [(33, 7), (16,), (64, 64), (5,), (), (0,), (300,), (8, 4, 3, 3)]
STEPS = 20


def trajectory(rule: str, dtype: torch.dtype, steps: int = STEPS, **options: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)

    def random(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    params = [Parameter(random(shape).to(dtype)) for shape in SHAPES]
    params[-1].data = params[-1].data.to(memory_format=torch.channels_last)
    given = {"total_steps": STEPS, "weight_decay": 0.01, "seed": 0, **options}
    optimizer = RuleOptimizer(params, rule, 0.01, **given)
    for _ in range(steps):
        for p in params:
            p.grad = (0.1 * random(p.shape)).to(dtype)
        optimizer.step()
    return [p.detach() for p in params]


def agree(a: list[Tensor], b: list[Tensor], tolerance: float) -> bool:
    return all(
        torch.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("rule", [*TABLE6, *MORE])
def test_foreach_is_the_reference(rule: str) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        reference = trajectory(rule, dtype, foreach=False)
        assert agree(reference, trajectory(rule, dtype, foreach=True), 0.0)


@pytest.mark.parametrize("rule", [*TABLE6, *MORE])
def test_one_update_of_the_reference_is_the_rules_meaning(rule: str) -> None:
    """The tree is evaluated by the rules room, on averages computed here."""
    total, t = 10, 3
    generator = torch.Generator().manual_seed(1)
    p = Parameter(torch.randn(40, generator=generator, dtype=torch.float64))
    optimizer = RuleOptimizer([p], rule, 1.0, total_steps=total, seed=9, foreach=False)
    averages = dict.fromkeys(("m", "v", "gamma"), torch.zeros(40, dtype=torch.float64))
    for _ in range(t + 1):
        w = p.detach().clone()
        p.grad = g = torch.randn(40, generator=generator, dtype=torch.float64)
        optimizer.step()
        for power, (name, beta) in enumerate(
            zip(averages, (0.9, 0.999, 0.999), strict=True), start=1
        ):
            averages[name] = beta * averages[name] + (1 - beta) * g**power
    hats = {
        name: average / (1 - beta ** (t + 1))
        for (name, average), beta in zip(averages.items(), (0.9, 0.999, 0.999), strict=True)
    }
    keys = iter([make_key(9, t, 0, site) for site in range(5)])
    noise = {
        name: std * normal(torch.arange(40), next(keys), torch.float64)
        for name, std in [("noise", 0.1), ("annealed_noise", (1 + t) ** -0.275)]
        if any(row.name == name for row in Rule.parse(rule).operands)
    }
    drops: Iterator[tuple[int, int]] = keys
    if _drops_first(rule):
        drops = iter([make_key(9, t, 0, site) for site in range(5)])
        noise = {
            k: 0.1 * normal(torch.arange(40), make_key(9, t, 0, 1), torch.float64) for k in noise
        }
    operands: dict[str, Tensor | float] = {
        **hats,
        **noise,
        "g": g,
        "w": w,
        "ld": 1 - t / total,
        "cd": 0.5 * (1 + math.cos(math.pi * t / total)),
        "cd3": 0.5 * (1 + math.cos(2 * math.pi * 3 * t / total)),
        "rd10": 1.0,
    }
    meaning = evaluate(
        Rule.parse(rule).expr,
        operands,
        drop=lambda x, q: torch.where(keep(torch.arange(x.numel()), next(drops), q), x, 0.0),
    )
    assert torch.allclose(p.detach(), w - meaning, rtol=1e-9, atol=1e-12, equal_nan=True)


def _drops_first(rule: str) -> bool:
    """Whether the first thing the rule draws is a drop."""
    for node in walk(Rule.parse(rule).expr):
        if getattr(node, "name", None) in ("noise", "annealed_noise"):
            return False
        if isinstance(node, Unary) and node.function == "drop":
            return True
    return False


# PowerSign, one with noise, one with drops, Adam; the rest of Table 6 is in the slow sweep
FEW = [
    "exp(ld * sign(g) * sign(m)) * g",
    "m * (1 + noise) * sigmoid(1e-4 * w)",
    "drop(m, 0.3) * exp(1e-3 * w)",
    "adam",
]


@pytest.mark.parametrize("rule", FEW)
def test_fused_is_the_reference(rule: str) -> None:
    for dtype, tolerance in [(torch.float64, 1e-12), (torch.float32, 2e-6)]:
        own = trajectory(rule, dtype, fused=True)
        assert agree(own, trajectory(rule, dtype, foreach=False), tolerance)
        if rule != FEW[0]:
            return


def seldom(number: int, rule: str) -> Any:
    """Two of three are drills: each takes seconds to compile."""
    return pytest.param(rule, marks=pytest.mark.drill if number % 3 else ())


@pytest.mark.slow
@pytest.mark.parametrize("rule", [*map(seldom, range(len(TABLE6)), TABLE6), *MORE])
def test_fused_is_the_reference_for_every_rule_of_table_6(rule: str) -> None:
    exact = trajectory(rule, torch.float64, foreach=False)
    assert agree(trajectory(rule, torch.float64, fused=True), exact, 1e-10)
    own = trajectory(rule, torch.float32, fused=True)
    reference = trajectory(rule, torch.float32, foreach=False)
    assert agree(own, reference, 1e-4) or as_exact(own, reference, exact)


def as_exact(own: list[Tensor], reference: list[Tensor], exact: list[Tensor]) -> bool:
    """Whether ``own`` errs no more than twice as far as ``reference`` does. A gradient that weight
    decay all but cancels makes a huge step by 1 / g of whatever its last bit is."""

    def worst(found: list[Tensor]) -> list[float]:
        errors = [((x - y) / (1 + y.abs())).abs() for x, y in zip(found, exact, strict=True)]
        return [float(error.max()) if error.numel() else 0.0 for error in errors]

    return all(e <= max(1e-4, 2 * r) for e, r in zip(worst(own), worst(reference), strict=True))


def test_fused_bfloat16_is_the_reference() -> None:
    own = trajectory("exp(sign(g) * sign(m)) * g", torch.bfloat16, fused=True)
    assert agree(
        own, trajectory("exp(sign(g) * sign(m)) * g", torch.bfloat16, foreach=False), 2**-8
    )


def test_one_compilation_serves_all_shapes_rates_and_steps() -> None:
    def step(*shapes: tuple[int, ...], **options: Any) -> None:
        params = [Parameter(torch.ones(s)) for s in shapes]
        optimizer = PowerSign(params, fused=True, **options)
        for _ in range(3):
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()

    step((64, 3))
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    step((64, 3), (1000,), (16, 16, 3, 3), lr=0.3, beta=0.5)
    step(*[(2**k,) for k in range(14)], lr=torch.tensor(0.3))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


def test_small_models_are_not_compiled() -> None:
    p = Parameter(torch.ones(1000))
    optimizer = PowerSign([p])
    p.grad = torch.ones_like(p)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    optimizer.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


@pytest.fixture
def broken_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fused kernel is cached, and building one fails."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(fused, "_COMPILED", {})
    monkeypatch.setattr(fused, "_FAILED", {})
    monkeypatch.setattr(compiler.torch, "compile", fails)
    monkeypatch.setattr(native, "_compiler", fails)


@pytest.mark.usefixtures("broken_compiler")
def test_without_a_compiler_it_warns_once_and_continues() -> None:
    p = Parameter(torch.ones(fused.PAYS_FROM))
    p.grad = torch.ones_like(p)
    optimizer = PowerSign([p], 0.1)
    with pytest.warns(UserWarning, match="foreach.*no C"):
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert p[0].item() == pytest.approx(1 - 2 * 0.1 * math.e)


@pytest.mark.usefixtures("broken_compiler")
@pytest.mark.filterwarnings("ignore:nos_repro")
def test_without_a_compiler_insisting_is_an_error() -> None:
    p = Parameter(torch.ones(4))
    p.grad = torch.ones_like(p)
    with pytest.raises(ConfigError, match=r"fused=True.*no C\+\+ compiler"):
        PowerSign([p], fused=True).step()


def test_a_program_computes_common_parts_once() -> None:
    program = lower(Rule.parse("(g * m + 1) / (g * m + 1)").expr)
    assert [line.function for line in program.body] == ["/", "*", "+", "+", "/"]


EDGES = [0.0, -0.0, 1.5, -1.5, 1e-320, math.inf, -math.inf, math.nan]
SIGNS = [Unary("sign", Operand(name)) for name in "gwm"]
SCALES = [Operand("ld"), Number(2.0), Number(-0.5), Number(1e200), Number(0.0), Operand("g")]


def of_signs(arguments: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    """Functions and products, so that functions see only signs."""
    functions = st.sampled_from(["neg", "exp", "log", "sigmoid", "sign", "sqrt"])
    return (
        st.builds(Unary, functions, arguments)
        | st.builds(Binary, st.sampled_from("**-+/"), arguments, arguments)
        | st.builds(Binary, st.just("**"), st.sampled_from([0.5, 2.0]).map(Number), arguments)
    )


@given(st.recursive(st.sampled_from([*SIGNS, *SCALES]), of_signs, max_leaves=7))
@settings(max_examples=300)
@example(parse("exp(exp(1000) * sign(g))"))
@example(parse("0.5**(sign(g) * log(0))"))
@example(parse("exp(ld * sign(g) * sign(m))"))
def test_selecting_by_signs_keeps_every_value(tree: Expr) -> None:
    """On pairs of zeros, infinities, NaN and all else."""
    g, w = torch.tensor([*itertools.product(EDGES, EDGES)], dtype=torch.float64).T
    fast, plain = fast_and_plain(Binary("*", tree, Operand("w")), g, w)
    torch.testing.assert_close(fast, plain, equal_nan=True, rtol=1e-12, atol=0)
    zeros = plain == 0
    assert torch.equal(fast.signbit()[zeros], plain.signbit()[zeros])


@pytest.mark.parametrize("text", [
    "exp(log(0) * sign(g) * sign(m))",
    "exp(1e39 * sign(g))",
    "(-2)**(sign(w) * 1e-50)",
    "exp(sign(g) * 1e38 * 1e38)",
    "sigmoid(1e20 * sign(g) * (sign(w) * exp(50)))",
    "2**(exp(100) * sign(g) * exp(ld - 101))",
    "exp(ld * sign(g) * sign(w) * 1e39)",
])  # fmt: skip
def test_a_scale_beyond_float32_is_infinite_there_too(text: str) -> None:
    g, w = torch.tensor([*itertools.product(EDGES, EDGES)]).T
    fast, plain = fast_and_plain(parse(text), g, w)
    torch.testing.assert_close(fast, plain, equal_nan=True, rtol=1e-6, atol=0)


def fast_and_plain(tree: Expr, g: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The weights after one step of the kernel's source, run as it is, and of the reference."""
    updated = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "_COMPILED", {})
        patch.setattr(fused, "native_kernel", lambda kind: None)
        patch.setattr(fused, "compile_kernel", lambda kernel, example, options: kernel)
        for execution in ({"fused": True}, {"foreach": False}):
            p = Parameter(w.clone())
            p.grad = g.clone()
            RuleOptimizer([p], Rule(tree), 1.0, total_steps=5, **execution).step()
            updated.append(p.detach())
    return tuple(updated)


def test_functions_of_signs_are_selected() -> None:
    program = select_signs(lower(parse("exp(ld * sign(g) * sign(m)) * g")))
    assert [line.function for line in program.body] == ["carry", "select", "*"]


def test_no_correction_is_made_under_a_sign() -> None:
    assert lower(Rule.parse("sign(m) * sign(-m) * g").expr).corrections == ()
    assert lower(Rule.parse("sign(m) * m").expr).corrections == ("m",)


def test_scalars_are_computed_outside_the_body() -> None:
    program = lower(Rule.parse("exp(ld * 2) * g").expr)
    assert len(program.body) == 1
    assert len(program.once) == 2


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, nos_repro; assert 'torch' not in sys.modules; nos_repro.PowerSign"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_an_optimizer_loads_nothing_that_only_prints_or_compares() -> None:
    code = (
        "import sys, torch\nfrom nos_repro import make_optimizer\n"
        "for name in ('powersign-ld', 'g', 'rule: g + drop(m, 0.3)', 'adam'):\n"
        "    make_optimizer(name, [torch.nn.Parameter(torch.ones(2))], lr=0.1, total_steps=3)\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    rules = {name for name in loaded.stdout.split() if name.startswith("nos_repro.rules.")}
    assert "nos_repro.rules.primitives" in rules
    for idle in ("normal", "latex", "explain", "fingerprint", "catalog", "evaluate", "space"):
        assert f"nos_repro.rules.{idle}" not in rules
