"""An exported file needs only torch and takes exactly the reference's steps."""

import ast
import importlib.util
import inspect
import io
import itertools
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.nn import Embedding, Parameter
from torch.optim import Optimizer

from nos_repro import RuleOptimizer
from nos_repro.errors import ConfigError, RuleError
from nos_repro.optim.export import BASELINES, default_name, export, find_rule
from nos_repro.rules.catalog import CATALOG
from nos_repro.rules.families import FAMILIES
from nos_repro.rules.primitives import BINARY, OPERANDS, UNARY
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES
from tests.conftest import ROOT

STEPS, FEWER, TOTAL = 50, 20, 15  # some of them past the end of the decays
PARAMETERS = {"clip": ", 0.01", "drop": ", 0.25"}


def every_primitive() -> list[str]:
    """Each operand, unary and binary, on tensors, on scalars, and on one of each."""
    operands = [f"{name} * g" for name in (*OPERANDS, "cd3", "rd10")]
    calls = [f"{name}({{}}{PARAMETERS.get(name, '')})" for name in UNARY]
    calls += [call for name in BINARY for call in (f"{{}} {name} 0.5", f"0.5 {name} {{}}")]
    unary = [call.format(x) for call in calls for x in ("g", "(ld - 2)")]
    return operands + unary + [f"m {name} (w {name} ld)" for name in BINARY]


def sampled() -> list[str]:
    """What a search proposes."""
    source = random.Random(0)
    return [
        str(Rule.from_tokens(space.sample(source))) for space in SPACES.values() for _ in range(2)
    ]


CATALOGUE = sorted({str(entry.rule) for entry in CATALOG.values()})
MORE = [
    "1",
    "noise - noise * annealed_noise + drop(g, 0.5) / drop(m, 0.5)",
    "ld ** g + 2 ** g - (-2) ** m",
    "2 ** (cd3 * sign(g) * sign(m)) * gamma + g2 * g3",
    "log(v) * sqrt(g2) / neg(0) + neg(neg(neg(2)) + 1e-7) * (0 * -1)",
    "neg(neg(g)) - (1 - (m - v)) / (2 / (3 / gamma))",
    "(exp(sign(g) * sign(m)) + sign(g) * sign(m)) * log(cd) ** -1 / sqrt(0 - ld)",
    " + ".join(f"exp(g * 0.{n}) * clip(m, 0.{n})" for n in range(1, 10)),
    "exp(" * 20 + "-g" + ")" * 20,
]
RULES = list(dict.fromkeys([*CATALOGUE, *every_primitive(), *MORE, *sampled()]))
FEW = ["exp(sign(g) * sign(m)) * g", "adam * cd", "drop(gamma, 0.3) * (1 + noise) + rd10 * w"]


def load(source: str, folder: Path) -> ModuleType:
    path = folder / "my_optimizer.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("my_optimizer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exported(text: str, folder: Path) -> Any:
    return load(export(f"rule: {text}", "Mine"), folder).Mine


def parameters() -> list[Parameter]:
    """Precisions, a scalar, nothing, an odd layout and one with holes in its memory."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 7), (), (0,), (9,), (3, 8), (2, 3, 2, 2), (4, 6)]
    params = [Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes]
    dtypes = [torch.float32] * 3 + [torch.bfloat16, torch.float64] + [torch.float32] * 2
    for p, dtype in zip(params, dtypes, strict=True):
        p.data = p.data.to(dtype)
    params[-2].data = params[-2].data.to(memory_format=torch.channels_last)
    params[-1].data = params[-1].data[:, ::2]
    return params


def build(kind: Any, *rule: str, **options: Any) -> Optimizer:
    """Two groups, the second with weight decay and its own rate."""
    params = parameters()
    groups = [{"params": params[:3]}, {"params": params[3:], "lr": 0.02, "weight_decay": 0.1}]
    taken = inspect.signature(kind).parameters
    given = {"lr": 0.01, "total_steps": TOTAL, "seed": 3, **options}
    optimizer = kind(groups, *rule, **{key: x for key, x in given.items() if key in taken})
    assert isinstance(optimizer, Optimizer)
    return optimizer


def train(optimizer: Optimizer, steps: range) -> list[Tensor]:
    """Gradients that follow from the weights; sometimes a parameter has none."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in steps:
        for i, p in enumerate(params):
            wave = torch.sin(torch.arange(p.numel()) * 1.7 + t + i).view(p.shape)
            p.grad = (0.1 * p.detach() + 0.1 * wave).to(p.dtype) if (t + i) % 9 else None
        optimizer.step()
    return [p.detach().clone() for p in params]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(
        torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("text", RULES)
def test_a_file_takes_exactly_the_steps_of_the_reference(text: str, tmp_path: Path) -> None:
    ours = build(RuleOptimizer, text, foreach=False)
    theirs = build(exported(text, tmp_path))
    steps = range(STEPS if text in CATALOGUE else FEWER)
    assert same(train(theirs, steps), train(ours, steps))
    averages = Rule.parse(text).averages
    assert all(set(state) - {"step"} == averages for state in theirs.state.values())


def test_the_comparison_is_not_one_of_nans(tmp_path: Path) -> None:
    """Most rules stay finite, and another seed or rate shows."""
    few = [train(build(exported(text, tmp_path)), range(STEPS)) for text in FEW]
    assert all(x.isfinite().all() for x in itertools.chain(*few))
    cls = exported(FEW[2], tmp_path)
    assert not same(train(build(cls, seed=4), range(STEPS)), few[2])
    assert not same(train(build(cls, total_steps=TOTAL + 1), range(STEPS)), few[2])


@pytest.mark.parametrize("text", FEW)
def test_other_betas_and_eps_are_the_references(text: str, tmp_path: Path) -> None:
    cls, rule = exported(text, tmp_path), Rule.parse(text)
    betas = {"m": 0.5, "v": 0.6, "gamma": 0.7}
    read = [betas[name] for name in betas if name in rule.averages]
    ours = build(RuleOptimizer, text, betas=tuple(betas.values()), eps=0.1, foreach=False)
    theirs = build(cls, beta=read[0], betas=tuple(read), eps=0.1)
    assert same(train(theirs, range(STEPS)), train(ours, range(STEPS)))


@pytest.mark.parametrize("text", FEW)
def test_a_run_continues_from_a_saved_state(text: str, tmp_path: Path) -> None:
    cls = exported(text, tmp_path)
    whole = train(build(cls), range(STEPS))
    first, second = build(cls), build(cls)
    weights = train(first, range(23))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    for p, saved in zip(
        (q for g in second.param_groups for q in g["params"]), weights, strict=True
    ):
        p.data.copy_(saved)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert same(train(second, range(23, STEPS)), whole)


@pytest.mark.parametrize("text", FEW)
def test_a_group_that_joins_later_joins_at_the_current_step(text: str, tmp_path: Path) -> None:
    results = []
    for optimizer in (
        build(RuleOptimizer, text, foreach=False),
        build(exported(text, tmp_path)),
    ):
        train(optimizer, range(10))
        optimizer.add_param_group({"params": parameters()[0]})
        results.append(train(optimizer, range(10, 30)))
    assert same(*results)


def test_the_adam_file_matches_torchs_adam(tmp_path: Path) -> None:
    options = {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-8}
    theirs, file = torch.optim.Adam([parameters()[0]], **options), exported("adam", tmp_path)
    walks = [train(each, range(STEPS)) for each in (file([parameters()[0]], **options), theirs)]
    assert torch.allclose(*(walk[0] for walk in walks), rtol=0, atol=1e-6)


def test_the_g_file_is_torchs_sgd_and_keeps_nothing(tmp_path: Path) -> None:
    options = {"lr": 0.1, "weight_decay": 0.1}
    file = exported("g", tmp_path)([parameters()[0]], **options)
    theirs = torch.optim.SGD([parameters()[0]], **options)
    walks = [train(each, range(STEPS)) for each in (file, theirs)]
    assert torch.allclose(*(walk[0] for walk in walks), rtol=0, atol=1e-6)
    assert file.state_dict()["state"] == {}


def test_the_m_file_goes_at_the_rate_of_a_constant_gradient_from_its_first_step(
    tmp_path: Path,
) -> None:
    p = Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = exported("m", tmp_path)([p], lr=0.1)
    for t in range(1, 6):
        p.grad = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
        optimizer.step()
        assert p.tolist() == pytest.approx([-0.1 * t, 0.2 * t, 0])


def test_a_file_imports_only_torch_and_the_standard_library() -> None:
    seen = set()
    for text in RULES:
        for node in ast.walk(ast.parse(export(f"rule: {text}"))):
            if isinstance(node, ast.Import):
                seen |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                seen.add(str(node.module))
    packages = {name.split(".")[0] for name in seen}
    assert packages == {"torch", "math", "struct", "collections", "hashlib", "typing"}


def test_files_are_the_same_each_time_and_as_ruff_writes_them(tmp_path: Path) -> None:
    for number, text in enumerate(RULES):
        source = export(f"rule: {text}")
        assert source == export(f"rule: {text}")
        (tmp_path / f"rule_{number}.py").write_text(source, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    settings = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
    for words in (["check", *settings], ["format", "--check", *settings]):
        done = subprocess.run([*ruff, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_files_pass_a_strict_type_checker(tmp_path: Path) -> None:
    for number, text in enumerate(RULES):
        (tmp_path / f"rule_{number}.py").write_text(export(f"rule: {text}"), encoding="utf-8")
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir"]
    files = [str(path) for path in tmp_path.glob("*.py")]
    done = subprocess.run(
        [*words, str(tmp_path / "cache"), *files], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_a_file_says_where_it_comes_from() -> None:
    said = ast.get_docstring(ast.parse(export("table6-13", "Mine")))
    assert said is not None
    for words in (
        "Bello et al. (2017)",
        "w <- w - lr * (exp(sign(g) * sign(m)) + clip(g, 1e-4)) * g",
        "m: bias-corrected average of g",
        "Table 6, rule 13",
        "optimizer = Mine(model.parameters(), lr=0.1)",
        "nos_repro export",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("g", []),
        ("exp(sign(g) * sign(m)) * g", ["beta"]),
        ("rmsprop", ["beta", "eps"]),
        ("m * ld + v * gamma", ["total_steps", "betas"]),
        ("drop(m, 0.3) / cd", ["total_steps", "beta", "eps", "seed"]),
    ],
)
def test_the_options_are_what_the_rule_reads(text: str, options: list[str], tmp_path: Path) -> None:
    taken = list(inspect.signature(exported(text, tmp_path)).parameters)
    assert taken[:2] == ["params", "lr"]
    assert sorted(taken[2:]) == sorted([*options, "weight_decay"])


def test_a_decay_without_its_end_is_an_error_at_construction(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="total_steps"):
        exported("g * ld", tmp_path)(parameters(), lr=0.1)


@pytest.mark.parametrize(
    "wrong",
    [{"lr": -1.0}, {"lr": float("nan")}, {"betas": (0.9, 1.0)}, {"betas": (0.9,) * 3},
     {"eps": -1e-8}, {"weight_decay": -1.0}, {"total_steps": 0}],
)  # fmt: skip
def test_an_impossible_option_is_named(wrong: dict[str, Any], tmp_path: Path) -> None:
    cls = exported("adam * ld", tmp_path)
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        cls(parameters(), **{"lr": 0.1, "total_steps": 10, **wrong})


def test_a_sparse_gradient_is_one_clear_error(tmp_path: Path) -> None:
    table = Embedding(4, 2, sparse=True)
    optimizer = exported("m", tmp_path)(table.parameters(), lr=0.1)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="needs dense ones"):
        optimizer.step()


def test_a_step_returns_the_loss_of_its_closure(tmp_path: Path) -> None:
    p = Parameter(torch.tensor([3.0]))
    optimizer = exported("g", tmp_path)([p], lr=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9
    assert p.item() == 0


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("powersign", "PowerSign"),
        ("powersign-cd", "PowerSignCd"),
        ("addsign-rd7", "AddSignRd7"),
        ("g * exp(sign(m) * sign(g))", "PowerSign"),
        ("table6-1", "ExportedOptimizer"),
    ],
)
def test_a_family_gives_its_name_to_the_class(given: str, name: str) -> None:
    assert default_name(find_rule(given)) == name
    assert f"class {name}(Optimizer):" in export(given)


def test_what_the_verb_rule_and_the_factory_understand_is_found() -> None:
    assert find_rule("table6-13") == CATALOG["table6-13"].rule
    assert find_rule("rule: adam") == find_rule("table6-adam") == Rule.parse("adam")
    assert find_rule("powersign-rd7") == FAMILIES["powersign"].rule("rd7")
    with pytest.raises(RuleError, match="unknown unary 'sgn'"):
        find_rule("rule: sgn(g)")


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_not_a_rule(name: str) -> None:
    with pytest.raises(ConfigError, match=r"use torch\.optim"):
        export(name)


@pytest.mark.parametrize("name", ["", "2fast", "a b", "class", "Optimizer", "float", "math", "g"])
def test_a_name_that_cannot_be_the_class_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        export("powersign-cd", name)


def test_a_file_loads_what_the_load_hooks_make_of_a_state(tmp_path: Path) -> None:
    cls = exported("m", tmp_path)
    saved, loaded = (cls([Parameter(torch.ones(3).bfloat16()) for _ in range(2)], 0.1)
                     for _ in range(2))  # fmt: skip
    train(saved, range(1, 4))

    def swap(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "state": {0: state["state"][1], 1: state["state"][0]}}

    loaded.register_load_state_dict_pre_hook(swap)
    loaded.load_state_dict(saved.state_dict())
    (a, b), (x, y) = ([s["m"] for s in o.state.values()] for o in (saved, loaded))
    assert torch.equal(a, y)
    assert torch.equal(b, x)
    assert not torch.equal(a, b)


def test_a_file_refuses_complex_parameters(tmp_path: Path) -> None:
    p = Parameter(torch.ones(3, dtype=torch.complex64))
    optimizer = exported("m", tmp_path)([p], 0.1)
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match=r"complex64.*real numbers"):
        optimizer.step()


@pytest.mark.parametrize("text", ["adam * ld", "g + noise", "drop(g, 0.3)"])
def test_a_file_does_not_count_the_hidden_step_of_a_distributed_checkpoint(
    text: str, tmp_path: Path
) -> None:
    """`torch.distributed.checkpoint.state_dict` takes it to make the state."""
    cls, options = exported(text, tmp_path), {"total_steps": TOTAL} if "ld" in text else {}
    models = [torch.nn.Linear(6, 5) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    plain, saved = (cls(model.parameters(), 0.1, **options) for model in models)
    for _ in range(2):
        get_optimizer_state_dict(models[1], saved)
    assert same(train(saved, range(3)), train(plain, range(3)))


def test_a_file_that_draws_says_what_its_draws_depend_on_and_refuses_shards(tmp_path: Path) -> None:
    cls = exported("drop(g, 0.3)", tmp_path)
    assert "give each one its own" in cls.__doc__
    assert "draw" not in (exported("g * m", tmp_path).__doc__ or "")
    p = Parameter(torch.ones(3))
    p.placements = ()  # type: ignore[attr-defined]  # as a DTensor has them
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="sharded"):
        cls([p], 0.1).step()
