"""What `torch.optim` promises, and what a rule adds to it."""

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import Parameter

from nos_repro import AddSign, PowerSign, RuleOptimizer
from nos_repro.errors import ConfigError, RuleError

POWERSIGN = "exp(sign(g) * sign(m)) * g"
RANDOM = "drop(m, 0.3) * (1 + noise) + 0.01 * annealed_noise * ld"
EXECUTIONS = [{"foreach": False}, {"foreach": True}]


def gradient(p: Tensor, t: int) -> Tensor:
    """Something with both signs and zeros that changes at every step."""
    x = torch.sin(torch.arange(p.numel(), dtype=torch.float64) * 1.7 + t * 0.9)
    return torch.where(x.abs() < 0.1, 0.0, x).to(p.dtype).view(p.shape)


def walk(optimizer: torch.optim.Optimizer, start: int, end: int) -> list[Tensor]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(start, end):
        for i, p in enumerate(params):
            p.grad = gradient(p, t + 31 * i)
        optimizer.step()
    return [p.detach().clone() for p in params]


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = shapes or ((3, 4), (7,), ())
    return [Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def decay(name: str | None, t: int, total: int) -> float:
    """f(t) of sec. 4.1, written again."""
    match name:
        case None:
            return 1.0
        case "ld":
            return 1 - t / total
        case "cd":
            return 0.5 * (1 + math.cos(math.pi * t / total))
        case "cd2":
            return 0.5 * (1 + math.cos(2 * math.pi * 2 * t / total))
        case "rd10":
            return 0.5 * (1 + math.cos(math.pi * ((t * 10) % total) / total))
    raise AssertionError(name)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", [None, "ld", "cd", "cd2", "rd10"])
@pytest.mark.parametrize("base", [math.e, 2.0])
def test_powersign_is_the_formula(name: str | None, base: float, execution: dict[str, Any]) -> None:
    (p,) = parameters((50,), dtype=torch.float64)
    w, m, total = p.detach().clone(), torch.zeros(50, dtype=torch.float64), 23
    optimizer = PowerSign([p], 0.05, base, 0.8, name, total, **execution)
    for t in range(total):
        p.grad = gradient(p, t)
        optimizer.step()
        m = 0.8 * m + 0.2 * p.grad
        f = decay(name, t, total)
        w = w - 0.05 * base ** (f * p.grad.sign() * m.sign()) * p.grad
        assert torch.allclose(p, w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", [None, "ld", "rd10"])
@pytest.mark.parametrize("alpha", [1.0, 2.0, 0.0, -0.5])
def test_addsign_is_the_formula(name: str | None, alpha: float, execution: dict[str, Any]) -> None:
    (p,) = parameters((50,), dtype=torch.float64)
    w, m, total = p.detach().clone(), torch.zeros(50, dtype=torch.float64), 23
    optimizer = AddSign([p], 0.05, alpha, decay=name, total_steps=total, **execution)
    for t in range(total):
        p.grad = gradient(p, t)
        optimizer.step()
        m = 0.9 * m + 0.1 * p.grad
        f = decay(name, t, total)
        w = w - 0.05 * (alpha + f * p.grad.sign() * m.sign()) * p.grad
        assert torch.allclose(p, w, rtol=0, atol=1e-12)


def test_at_and_past_the_end_a_restart_decay_is_one() -> None:
    """TensorFlow's value at t = T."""
    (p,) = parameters((1,), dtype=torch.float64)
    optimizer = RuleOptimizer([p], "rd10", 1.0, total_steps=4)
    seen = []
    for _ in range(7):
        before = p.item()
        p.grad = torch.ones_like(p)
        optimizer.step()
        seen.append(before - p.item())
    assert seen[4:] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_the_adam_rule_matches_torchs_adam(execution: dict[str, Any]) -> None:
    ours = RuleOptimizer(parameters(), "adam", 0.01, **execution)
    theirs = torch.optim.Adam(parameters(), 0.01)
    for a, b in zip(walk(ours, 0, 50), walk(theirs, 0, 50), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_the_rmsprop_rule_matches_torchs_adam_without_momentum(
    execution: dict[str, Any],
) -> None:
    """v_hat is bias-corrected, which torch's RMSprop is not: Adam with beta1 = 0 is."""
    ours = RuleOptimizer(parameters(), "rmsprop", 0.01, **execution)
    theirs = torch.optim.Adam(parameters(), 0.01, betas=(0.0, 0.999))
    for a, b in zip(walk(ours, 0, 50), walk(theirs, 0, 50), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_the_rmsprop_rule_matches_torchs_rmsprop_at_a_corrected_rate() -> None:
    """Without the correction v is smaller by 1 - beta^t, and so is the root that divides."""
    ours = RuleOptimizer(parameters(), "rmsprop", 0.01, eps=0.0)
    theirs = torch.optim.RMSprop(parameters(), alpha=0.999, eps=0.0)
    for t in range(50):
        theirs.param_groups[0]["lr"] = 0.01 * math.sqrt(1 - 0.999 ** (t + 1))
        for group in (ours, theirs):
            for i, p in enumerate(group.param_groups[0]["params"]):
                p.grad = 0.1 + gradient(p, t + i).abs()
            group.step()
    for a, b in zip(*(o.param_groups[0]["params"] for o in (ours, theirs)), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("maximize", [False, True])
def test_the_sgd_rule_is_torchs_sgd(weight_decay: float, maximize: bool) -> None:
    options = {"weight_decay": weight_decay, "maximize": maximize}
    ours = RuleOptimizer(parameters(), "g", 0.01, **options)  # type: ignore[arg-type]
    theirs = torch.optim.SGD(parameters(), 0.01, **options)  # type: ignore[arg-type]
    for a, b in zip(walk(ours, 0, 50), walk(theirs, 0, 50), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_the_momentum_rule_is_torchs_dampened_momentum_except_for_the_correction() -> None:
    """m_hat = m / (1 - beta^t), and m is torch's buffer with dampening beta that starts at 0."""
    ours = RuleOptimizer(parameters(), "m", 0.01)
    theirs = torch.optim.SGD(parameters(), 0.01, momentum=0.9, dampening=0.9)
    for p in theirs.param_groups[0]["params"]:
        p.grad = torch.zeros_like(p)
    theirs.step()
    for t in range(50):
        theirs.param_groups[0]["lr"] = 0.01 / (1 - 0.9 ** (t + 1))
        walk(ours, t, t + 1)
        walk(theirs, t, t + 1)
    for a, b in zip(*(o.param_groups[0]["params"] for o in (ours, theirs)), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_l2_decay_is_seen_by_the_rule_and_decoupled_decay_is_not() -> None:
    theirs: list[torch.optim.Optimizer] = [
        torch.optim.Adam(parameters(), 0.01, weight_decay=0.1),
        torch.optim.AdamW(parameters(), 0.01, weight_decay=0.1),
    ]
    for decoupled, other in zip([False, True], theirs, strict=True):
        ours = RuleOptimizer(
            parameters(), "adam", 0.01, weight_decay=0.1, decoupled_weight_decay=decoupled
        )
        for a, b in zip(walk(ours, 0, 30), walk(other, 0, 30), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("g", set()),
        (POWERSIGN, {"m"}),
        ("adam", {"m", "v"}),
        ("sign(gamma) * g", {"gamma"}),
    ],
)
def test_only_the_averages_that_the_rule_reads_are_kept(rule: str, names: set[str]) -> None:
    optimizer = RuleOptimizer(parameters(), rule, 0.1)
    walk(optimizer, 0, 2)
    for state in optimizer.state.values():
        assert state.keys() == names | {"step"}
        assert state["step"] == 2


@pytest.mark.parametrize("rule", [POWERSIGN, "adam", RANDOM])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_saved_state_continues_bit_for_bit(rule: str, dtype: torch.dtype) -> None:
    def make(params: list[Parameter], seed: int) -> RuleOptimizer:
        groups = [{"params": params[:1], "lr": 0.05}, {"params": params[1:], "betas": (0.5,) * 3}]
        return RuleOptimizer(groups, rule, 0.1, total_steps=20, seed=seed)

    whole = walk(make(parameters(dtype=dtype), 5), 0, 20)
    first = make(parameters(dtype=dtype), 5)
    weights = walk(first, 0, 8)
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    second = make([Parameter(w) for w in weights], 99)
    second.load_state_dict(torch.load(stored, weights_only=True))
    assert all(map(torch.equal, walk(second, 8, 20), whole))


def test_a_loaded_state_shares_no_memory_with_its_source() -> None:
    first = RuleOptimizer(parameters(), "m", 0.1)
    walk(first, 0, 3)
    second = RuleOptimizer(parameters(), "m", 0.1)
    second.load_state_dict(first.state_dict())
    before = [state["m"].clone() for state in first.state.values()]
    walk(second, 3, 6)
    assert all(map(torch.equal, before, [state["m"] for state in first.state.values()]))


def saved_and_loaded(optimizer: RuleOptimizer) -> Any:
    stored = io.BytesIO()
    torch.save(optimizer, stored)
    stored.seek(0)
    return torch.load(stored, weights_only=False)


CLONES = [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), saved_and_loaded]


@pytest.mark.parametrize("clone", CLONES)
def test_a_copy_continues_identically_and_leaves_the_original_alone(clone: Any) -> None:
    optimizer = RuleOptimizer(parameters(), RANDOM, 0.1, total_steps=20)
    before = walk(optimizer, 0, 5)
    twin = clone(optimizer)
    there = walk(twin, 5, 9)
    assert all(map(torch.equal, walk(optimizer, 5, 5), before)), "the copy moved the original"
    assert all(map(torch.equal, walk(optimizer, 5, 9), there))


def older(optimizer: RuleOptimizer) -> RuleOptimizer:
    """An optimizer as an older version, without most of today's options, would have made it."""
    for group in [optimizer.defaults, *optimizer.param_groups]:
        group["rule"] = optimizer.rule_of(group)
        for option in group.keys() - {"params", "rule", "lr"}:
            del group[option]
    return optimizer


@pytest.mark.parametrize("clone", CLONES)
@pytest.mark.parametrize("rule", ["adam", "drop(m, 0.3) * (1 + noise) + 0.01 * annealed_noise"])
def test_a_copy_without_newer_options_continues_with_their_defaults(clone: Any, rule: str) -> None:
    """The default of seed was 0 when it was not saved."""
    optimizer = RuleOptimizer(parameters(), rule, 0.1, seed=0)
    whole = walk(RuleOptimizer(parameters(), rule, 0.1, seed=0), 0, 9)
    walk(optimizer, 0, 5)
    revived = clone(older(optimizer))
    assert all(map(torch.equal, walk(revived, 5, 9), whole))
    revived.add_param_group({"params": parameters((2,))})
    assert revived.param_groups[1]["t"] == 9


def test_a_saved_state_without_newer_options_continues_with_their_defaults() -> None:
    first = PowerSign(parameters(), 0.1)
    walk(first, 0, 5)
    second = PowerSign([Parameter(p.detach().clone()) for p in first.param_groups[0]["params"]])
    second.load_state_dict(copy.deepcopy(older(copy.deepcopy(first)).state_dict()))
    assert all(map(torch.equal, walk(first, 5, 9), walk(second, 5, 9)))


def test_a_state_of_another_rule_is_refused_with_the_difference() -> None:
    first = RuleOptimizer(parameters(), "adam", 0.1)
    second = RuleOptimizer(parameters(), "rmsprop", 0.1)
    with pytest.raises(ConfigError, match=r"(?s)another update rule.*adam.*rmsprop"):
        second.load_state_dict(first.state_dict())
    with pytest.raises(ConfigError, match="another update rule"):
        second.load_state_dict(torch.optim.SGD(parameters(), 0.1).state_dict())


def test_a_state_that_lacks_an_average_is_refused() -> None:
    optimizer = RuleOptimizer(parameters(), "m", 0.1)
    walk(optimizer, 0, 1)
    saved = optimizer.state_dict()
    del saved["state"][1]["m"]
    with pytest.raises(ConfigError, match="'m' of parameter 1"):
        optimizer.load_state_dict(saved)


def test_loading_keeps_the_execution_of_the_one_that_loads() -> None:
    first = RuleOptimizer(parameters(), "m", 0.1, foreach=True)
    second = RuleOptimizer(parameters(), "m", 0.1, foreach=False)
    second.load_state_dict(first.state_dict())
    assert second.param_groups[0]["foreach"] is False


def test_groups_have_their_own_rates_and_decay_rates() -> None:
    a, b = parameters((4,), (4,))
    both = RuleOptimizer(
        [{"params": [a], "lr": 0.5, "betas": (0.0, 0.9, 0.9)}, {"params": [b]}], "m", 0.1
    )
    (x,), (y,) = parameters((4,)), parameters((4,), (4,))[1:]
    alone = [
        RuleOptimizer([x], "m", 0.5, betas=(0.0, 0.9, 0.9)),
        RuleOptimizer([y], "m", 0.1),
    ]
    for t in range(5):
        for p in (a, b, x, y):
            p.grad = gradient(p, t)
        for optimizer in (both, *alone):
            optimizer.step()
    assert torch.equal(a, x)
    assert torch.equal(b, y)


def test_a_group_added_later_joins_at_the_current_step() -> None:
    a, b = parameters((3,), (3,), dtype=torch.float64)
    optimizer = RuleOptimizer([a], "ld", 1.0, total_steps=10)
    for _ in range(4):
        a.grad = torch.zeros_like(a)
        optimizer.step()
    optimizer.add_param_group({"params": [b]})
    before = b.detach().clone()
    b.grad = torch.zeros_like(b)
    optimizer.step()
    assert torch.allclose(before - b, torch.full_like(b, 1 - 4 / 10))


def test_parameters_without_gradient_are_left_alone() -> None:
    a, b = parameters((3,), (3,))
    optimizer = RuleOptimizer([a, b], "adam", 0.1)
    before = b.detach().clone()
    a.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(b, before)
    assert b not in optimizer.state
    b.grad = torch.ones(3)
    optimizer.step()
    assert torch.allclose(before - b, torch.full((3,), 0.1), atol=1e-6), "its own first update"


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    (p,) = parameters((3,))
    optimizer = PowerSign([p], 0.01)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    losses = [optimizer.step(closure) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_rate_may_be_a_tensor(shape: tuple[int, ...], execution: dict[str, Any]) -> None:
    rate = torch.full(shape, 0.1)
    ours = walk(PowerSign(parameters(), rate, weight_decay=0.1, **execution), 0, 5)
    theirs = walk(PowerSign(parameters(), 0.1, weight_decay=0.1, **execution), 0, 5)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_memory_layout_does_not_matter(execution: dict[str, Any]) -> None:
    plain = parameters((8, 6, 3, 3), (5, 7), (4, 6))
    odd = [
        Parameter(plain[0].detach().to(memory_format=torch.channels_last)),
        Parameter(plain[1].detach().t().contiguous().t()),
        Parameter(torch.zeros(4, 12)[:, ::2].copy_(plain[2].detach())),
    ]
    assert not any(p.is_contiguous() for p in odd)
    ours = RuleOptimizer(odd, "adam", 0.1, **execution)
    assert all(map(torch.equal, walk(ours, 0, 5), walk(RuleOptimizer(plain, "adam", 0.1), 0, 5)))
    assert ours.state[odd[0]]["m"].is_contiguous(memory_format=torch.channels_last)


def test_a_model_may_change_its_layout_between_steps() -> None:
    (p,), (q,) = parameters((8, 6, 3, 3)), parameters((8, 6, 3, 3))
    ours, plain = RuleOptimizer([p], "m", 0.1), RuleOptimizer([q], "m", 0.1)
    walk(ours, 0, 2)
    p.data = p.data.to(memory_format=torch.channels_last)
    walk(plain, 0, 2)
    assert all(map(torch.equal, walk(ours, 2, 5), walk(plain, 2, 5)))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_half_precision_computes_in_float32(execution: dict[str, Any]) -> None:
    (p,), (q,) = parameters((100,), dtype=torch.bfloat16), parameters((100,))
    q.data = p.data.float()
    ours = RuleOptimizer([p], "adam", 0.01, **execution)
    theirs = torch.optim.Adam([q], 0.01)
    for t in range(5):
        p.grad = gradient(p, t)
        q.grad, q.data = p.grad.float(), p.data.float()
        ours.step()
        theirs.step()
        assert torch.allclose(p.float(), q, rtol=2**-8, atol=1e-6)
    assert ours.state[p]["v"].dtype == torch.float32


def test_empty_parameters_are_allowed() -> None:
    (p,) = parameters((0, 3))
    walk(PowerSign([p]), 0, 2)


def test_a_non_finite_update_is_not_an_error() -> None:
    (p,) = parameters((2,))
    optimizer = RuleOptimizer([p], "exp(g)", 1.0)
    p.grad = torch.tensor([1000.0, math.nan])
    optimizer.step()
    assert p[0] == -math.inf
    assert p[1].isnan()


def test_sparse_gradients_are_refused() -> None:
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = PowerSign(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ConfigError, match="sparse"):
        optimizer.step()


def test_complex_and_integer_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="view_as_real"):
        PowerSign([Parameter(torch.zeros(2, dtype=torch.complex64))])
    with pytest.raises(ConfigError, match="int64"):
        PowerSign([Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)])


@pytest.mark.parametrize(
    "options",
    [
        {"lr": math.nan},
        {"lr": -1.0},
        {"lr": "fast"},
        {"lr": torch.zeros(2)},
        {"lr": 0.1, "betas": (0.9, 0.999)},
        {"lr": 0.1, "betas": (0.9, 1.0, 0.9)},
        {"lr": 0.1, "eps": -1e-8},
        {"lr": 0.1, "weight_decay": math.inf},
        {"lr": 0.1, "total_steps": 0},
        {"lr": 0.1, "total_steps": 2.5},
        {"lr": 0.1, "foreach": True, "fused": True},
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RuleOptimizer(parameters(), "g", **options)


def test_a_bad_group_is_refused_and_not_kept() -> None:
    optimizer = RuleOptimizer(parameters(), "g", 0.1)
    with pytest.raises(ConfigError):
        optimizer.add_param_group({"params": parameters((2,)), "lr": -1.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("rule", ["ld * g", "g * cd3", "rd10 * g", "cd"])
def test_a_decay_without_total_steps_is_an_error_at_construction(rule: str) -> None:
    with pytest.raises(RuleError, match="total_steps"):
        RuleOptimizer(parameters(), rule, 0.1)


def test_families_refuse_what_they_cannot_be() -> None:
    with pytest.raises(RuleError, match="total_steps"):
        PowerSign(parameters(), decay="cd")
    with pytest.raises(RuleError, match=r"(?s)'xd'.*cd"):
        AddSign(parameters(), decay="xd", total_steps=5)
    with pytest.raises(ConfigError, match="base"):
        PowerSign(parameters(), base=-1.0)
    with pytest.raises(ConfigError, match="alpha"):
        AddSign(parameters(), alpha=math.inf)


def test_a_different_seed_draws_differently() -> None:
    a, b = (
        walk(RuleOptimizer(parameters(), RANDOM, 0.1, total_steps=9, seed=s), 0, 3) for s in (0, 1)
    )
    assert not any(map(torch.equal, a, b))


def test_optimizers_without_a_seed_draw_differently_and_resume_with_their_own() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made = [RuleOptimizer(parameters(), RANDOM, 0.1, total_steps=9) for _ in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    states = [optimizer.state_dict() for optimizer in made[:2]]
    first, second = (walk(optimizer, 0, 3) for optimizer in made[:2])
    assert not any(map(torch.equal, first, second))
    made[2].load_state_dict(states[0])
    assert all(map(torch.equal, walk(made[2], 0, 3), first))


def test_groups_without_a_seed_share_that_of_their_optimizer() -> None:
    a, b = parameters(), parameters()
    optimizer = RuleOptimizer([{"params": a}, {"params": b, "seed": None}], "noise", 0.1)
    optimizer.add_param_group({"params": [Parameter(torch.ones(2))], "seed": 4})
    seeds = [group["seed"] for group in optimizer.param_groups]
    assert seeds == [optimizer.defaults["seed"]] * 2 + [4]


def test_two_parameters_draw_differently() -> None:
    a, b = (Parameter(torch.zeros(50)) for _ in range(2))
    optimizer = RuleOptimizer([a, b], "noise", 1.0)
    a.grad, b.grad = torch.zeros(50), torch.zeros(50)
    optimizer.step()
    assert not torch.equal(a, b)
    assert 0.05 < a.std() < 0.15, "N(0, 0.01): the standard deviation is 0.1"


def test_fabric_wraps_it() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(
        module := torch.nn.Linear(3, 1), PowerSign(module.parameters(), 0.01)
    )
    before = module.weight.detach().clone()
    fabric.backward(model(torch.ones(2, 3)).sum())
    optimizer.step()
    assert not torch.equal(before, module.weight)
    restored = PowerSign(torch.nn.Linear(3, 1).parameters(), 0.01)
    restored.load_state_dict(optimizer.state_dict())


def test_autocast_and_the_gradient_scaler_work_with_it() -> None:
    model = torch.nn.Linear(3, 1)
    optimizer = PowerSign(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = model.weight.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(torch.ones(2, 3)).sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    change = (before - model.weight).detach()
    assert torch.allclose(change, torch.full_like(change, 0.01 * math.e * 2), rtol=1e-2)

    before = model.weight.detach().clone()
    assert model.weight.grad is not None
    model.weight.grad.fill_(math.inf)
    scaler.step(optimizer)
    assert torch.equal(before, model.weight), "an overflowing step is skipped"
