"""What PyTorch's own tests ask of every optimizer, asked of these in all three executions."""

import copy
import io
import math
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer, lr_scheduler, swa_utils

from nos_repro import AddSign, PowerSign, RuleOptimizer

EXECUTIONS = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
# fmt: off
KINDS: dict[str, tuple[type[RuleOptimizer], dict[str, Any]]] = {
    "PowerSign": (PowerSign, {"lr": 0.02, "decay": "cd", "total_steps": 40}),
    "AddSign":   (AddSign, {"lr": 0.02, "weight_decay": 0.01}),
    "rule":      (RuleOptimizer, {"rule": "adam * ld + 0.01 * drop(m, 0.3)", "lr": 0.02,
                                  "total_steps": 40, "seed": 1}),
}
VARIATIONS: dict[str, dict[str, Any]] = {
    "default":         {},
    "a larger rate":   {"lr": 0.1},
    "a tensor rate":   {"lr": torch.tensor(0.02)},
    "rate zero":       {"lr": 0.0},
    "weight decay":    {"weight_decay": 0.1},
    "decoupled decay": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "maximize":        {"maximize": True},
    "both":            {"weight_decay": 0.1, "maximize": True},
    "a longer run":    {"total_steps": 100},
}
# fmt: on

Maker = Callable[..., RuleOptimizer]


def compiled(execution: str, seldom: bool) -> Any:
    """The marks of what compiles kernels that few other tests share."""
    return pytest.mark.slow if execution == "fused" and seldom else ()


@pytest.fixture(
    params=[
        pytest.param((kind, execution), marks=compiled(execution, kind != "PowerSign"))
        for kind in KINDS
        for execution in EXECUTIONS
    ],
    ids="-".join,
)
def make(request: pytest.FixtureRequest) -> Maker:
    """Makes an optimizer of one class in one execution."""
    kind, execution = request.param
    cls, options = KINDS[kind]
    return lambda params, **more: cls(params, **{**options, **EXECUTIONS[execution], **more})


def shapes() -> list[Tensor]:
    """Matrices and vectors, a scalar, an empty one, transposed, channels last, with holes."""
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    return [
        random(5, 40), random(33), random(), random(0, 3), random(6, 4).t(), random(8, 10)[:, ::2],
        random(2, 3, 4, 4).to(memory_format=torch.channels_last),
    ]  # fmt: skip


def parameters(dtype: torch.dtype = torch.float32) -> list[Parameter]:
    return [Parameter(x.to(dtype)) for x in shapes()]


def weights(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def set_gradients(params: list[Any], t: int, sign: float = 1.0) -> None:
    for i, p in enumerate(params):
        wave = torch.sin(torch.arange(p.numel()) * 1.3 + t + 5 * i)
        p.grad = (sign * wave).view(p.shape).to(p.dtype)


def walk(optimizer: Optimizer, start: int = 0, end: int = 5, sign: float = 1.0) -> list[Tensor]:
    for t in range(start, end):
        set_gradients(weights(optimizer), t, sign)
        optimizer.step()
    return [p.detach().clone() for p in weights(optimizer)]


def close(left: list[Tensor], right: list[Tensor], tolerance: float = 1e-6) -> bool:
    return all(
        torch.allclose(a, b, rtol=tolerance, atol=tolerance)
        for a, b in zip(left, right, strict=True)
    )


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(map(torch.equal, left, right))


# The three executions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("variation", "execution"),
    [
        pytest.param(variation, execution, marks=compiled(execution, variation != "default"))
        for variation in VARIATIONS
        for execution in ("foreach", "fused")
    ],
)
def test_every_execution_is_the_loop(kind: str, variation: str, execution: str) -> None:
    cls, options = KINDS[kind]

    def ends(execution: str) -> list[Tensor]:
        more = copy.deepcopy(VARIATIONS[variation])
        return walk(cls(parameters(), **{**options, **EXECUTIONS[execution], **more}))

    assert close(ends(execution), ends("loop"))


def test_one_step_at_a_time_is_the_same_for_mixed_dtypes(make: Maker) -> None:
    """Parameters of several dtypes in one group are updated as each would be alone."""
    dtypes = [torch.float32, torch.float64, torch.bfloat16]
    mixed = make([p for dtype in dtypes for p in parameters(dtype)], foreach=False, fused=None)
    together = make([p for dtype in dtypes for p in parameters(dtype)])
    for a, b in zip(walk(together), walk(mixed), strict=True):
        assert a.dtype == b.dtype
        tolerance = 2**-7 if a.dtype == torch.bfloat16 else 1e-6
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def test_maximizing_is_following_the_opposite_gradient(make: Maker) -> None:
    up, down = make(parameters(), maximize=True), make(parameters())
    assert equal(walk(up), walk(down, sign=-1.0))


def test_a_quadratic_is_minimized(make: Maker) -> None:
    p = Parameter(torch.tensor([3.0, -2.0]))
    optimizer = make([p], total_steps=200)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 3.0, "it began at 13"


@pytest.mark.parametrize("rate", [0.05, torch.tensor(0.05), torch.tensor([0.05])])
def test_a_rate_is_a_number_or_a_tensor(make: Maker, rate: Any) -> None:
    assert close(walk(make(parameters(), lr=rate)), walk(make(parameters(), lr=0.05)))


# Groups and parameters


def test_groups_have_their_own_options(make: Maker) -> None:
    own = {"lr": 0.1, "weight_decay": 0.2, "maximize": True}
    a, b = parameters(), parameters()
    both = make([{"params": a, **own}, {"params": b}])
    both.param_groups[1]["params"] = b
    alone = make(parameters(), **own)
    assert equal(walk(both)[: len(a)], walk(alone))


def test_a_group_that_joins_later_is_updated(make: Maker) -> None:
    optimizer = make(parameters())
    walk(optimizer)
    optimizer.add_param_group({"params": Parameter(torch.ones(3)), "lr": 0.5})
    late = optimizer.param_groups[1]
    assert late["lr"] == 0.5
    assert late.keys() == optimizer.param_groups[0].keys()
    before = late["params"][0].detach().clone()
    walk(optimizer, 5, 6)
    assert not torch.equal(before, late["params"][0])


def test_parameters_are_a_collection_that_is_not_empty(make: Maker) -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        make([])
    with pytest.raises(TypeError, match="should be an iterable of Tensors or dicts"):
        make(Parameter(torch.zeros(2)))
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        make([3.0])
    with pytest.raises(ValueError, match="non-leaf"):
        make([Parameter(torch.zeros(2)) * 2])
    with pytest.raises(TypeError, match="ordered collections"):
        make([{"params": {Parameter(torch.zeros(2))}}])


def test_duplicate_parameters_are_warned_of_or_refused(make: Maker) -> None:
    p = Parameter(torch.zeros(2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        make([p, p])
    with pytest.raises(ValueError, match="more than one parameter group"):
        make([{"params": [p]}, {"params": [p]}])


def test_generators_of_parameters_are_taken(make: Maker) -> None:
    model = torch.nn.Linear(3, 2)
    assert len(weights(make(model.parameters()))) == 2
    assert len(weights(make(iter([{"params": model.parameters()}])))) == 2


def test_the_names_of_parameters_are_kept_and_saved(make: Maker) -> None:
    model, same = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    same.load_state_dict(model.state_dict())
    named, plain = make(model.named_parameters()), make(same.parameters())
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]
    assert equal(walk(named), walk(plain))
    plain.load_state_dict(named.state_dict())
    assert plain.param_groups[0]["param_names"] == ["weight", "bias"]
    named.load_state_dict(make(same.parameters()).state_dict())
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]
    with pytest.raises(ValueError, match="with/without names"):
        named.add_param_group({"params": [Parameter(torch.zeros(1))]})


def test_a_parameter_without_gradient_has_neither_update_nor_state(make: Maker) -> None:
    first, second = Parameter(torch.ones(3)), Parameter(torch.ones(3))
    optimizer = make([first, second])
    first.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(second, torch.ones(3))
    assert second not in optimizer.state
    assert optimizer.state[first]["step"] == 1
    optimizer.zero_grad()
    before = first.detach().clone()
    optimizer.step()
    assert torch.equal(first, before)


def test_clearing_gradients_is_torchs(make: Maker) -> None:
    optimizer = make(parameters())
    set_gradients(weights(optimizer), 0)
    optimizer.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in weights(optimizer))  # type: ignore[union-attr]
    optimizer.zero_grad()
    assert all(p.grad is None for p in weights(optimizer))


def test_the_graph_of_a_gradient_does_not_matter(make: Maker) -> None:
    p = Parameter(torch.ones(3))
    optimizer = make([p])
    p.grad = torch.autograd.grad((p**3).sum(), p, create_graph=True)[0]
    assert p.grad.requires_grad
    optimizer.step()
    assert p.requires_grad
    assert p.is_leaf


# States


def test_a_saved_state_goes_on_in_another_optimizer(make: Maker) -> None:
    first = make([{"params": parameters()[:3], "lr": 0.1}, {"params": parameters()[3:]}])
    start = walk(first)
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    second = make(
        [{"params": [Parameter(w.clone()) for w in part]} for part in (start[:3], start[3:])],
        lr=9.0,
    )
    second.load_state_dict(torch.load(stored, weights_only=True))
    assert close(walk(second, 5, 9), walk(first, 5, 9))
    assert [g["lr"] for g in second.param_groups] == [g["lr"] for g in first.param_groups]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_goes_on_alone(make: Maker, clone: Any) -> None:
    first = make(parameters())
    walk(first)
    second = clone(first)
    before = [p.detach().clone() for p in weights(first)]
    there = walk(second, 5, 9)
    assert equal(weights(first), before)
    assert equal(walk(first, 5, 9), there)


def test_a_state_dict_refers_to_the_state_and_loading_copies_it(make: Maker) -> None:
    first, second = make(parameters()), make(parameters())
    walk(first)
    saved = first.state_dict()
    assert saved["state"][0]["m"] is first.state[weights(first)[0]]["m"]
    before = copy.deepcopy(saved)
    second.load_state_dict(saved)
    walk(second, 5, 9)
    assert torch.equal(saved["state"][0]["m"], before["state"][0]["m"])
    assert saved["state"][0]["step"] == before["state"][0]["step"]
    assert saved["param_groups"] == before["param_groups"]


def test_a_state_follows_a_model_that_changes_its_precision(make: Maker) -> None:
    first = make([Parameter(torch.linspace(-1, 1, 48).view(3, 16))])
    walk(first)
    half = make([Parameter(weights(first)[0].detach().bfloat16())])
    half.load_state_dict(first.state_dict())
    double = make([Parameter(weights(first)[0].detach().double())])
    double.load_state_dict(first.state_dict())
    assert [next(iter(o.state.values()))["m"].dtype for o in (half, double)] == [
        torch.float32, torch.float64,
    ]  # fmt: skip
    end = walk(first, 5, 7)[0]
    assert torch.allclose(walk(half, 5, 7)[0].float(), end, atol=0.02)
    assert torch.allclose(walk(double, 5, 7)[0].float(), end, atol=1e-5)


def test_a_model_may_change_its_precision_under_its_optimizer(make: Maker) -> None:
    model = torch.nn.Linear(16, 4)
    optimizer = make(model.parameters())
    walk(optimizer)
    model.double()
    walk(optimizer, 5, 7)
    assert all(p.dtype == torch.float64 and p.isfinite().all() for p in weights(optimizer))
    model.to("cpu")
    walk(optimizer, 7, 8)


def test_a_state_of_other_groups_is_refused(make: Maker) -> None:
    one = make([Parameter(torch.zeros(2))])
    two = make([{"params": [Parameter(torch.zeros(2))]}, {"params": [Parameter(torch.zeros(2))]}])
    more = make([Parameter(torch.zeros(2)), Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        one.load_state_dict(two.state_dict())
    with pytest.raises(ValueError, match="doesn't match the size"):
        one.load_state_dict(more.state_dict())


def test_a_state_may_be_loaded_before_the_first_step_of_either(make: Maker) -> None:
    first, second = make(parameters()), make(parameters())
    second.load_state_dict(first.state_dict())
    assert equal(walk(first), walk(second))


# Hooks and closures


def test_hooks_are_called_around_a_step_and_around_saving_and_loading(make: Maker) -> None:
    optimizer, called = make(parameters()), []
    handles = [
        optimizer.register_step_pre_hook(lambda *_: called.append("before")),
        optimizer.register_step_post_hook(lambda *_: called.append("after")),
        optimizer.register_state_dict_pre_hook(lambda _: called.append("save")),
        optimizer.register_state_dict_post_hook(lambda _, state: called.append("saved")),
        optimizer.register_load_state_dict_pre_hook(lambda _, state: called.append("load")),
        optimizer.register_load_state_dict_post_hook(lambda _: called.append("loaded")),
    ]
    walk(optimizer, 0, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    assert called == ["before", "after", "save", "saved", "load", "loaded"]
    for handle in handles:
        handle.remove()
    walk(optimizer, 1, 2)
    optimizer.load_state_dict(optimizer.state_dict())
    assert len(called) == 6


def test_a_failed_load_leaves_no_hook_behind(make: Maker) -> None:
    optimizer = make(parameters())
    with pytest.raises(ValueError):
        optimizer.load_state_dict(make(parameters()[:1]).state_dict())
    assert not optimizer._optimizer_load_state_dict_pre_hooks
    assert not optimizer._optimizer_load_state_dict_post_hooks


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(make: Maker) -> None:
    p = Parameter(torch.ones(3))
    optimizer = make([p])
    assert optimizer.step() is None

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    assert optimizer.step(closure).item() == 3.0  # type: ignore[arg-type, attr-defined]
    with torch.no_grad():
        optimizer.step(closure)  # type: ignore[arg-type]


# What it shows of itself


def test_its_words_name_every_option_of_every_group(make: Maker) -> None:
    optimizer = make([{"params": [Parameter(torch.zeros(2))], "lr": 0.5}])
    text = repr(optimizer)
    assert re.match(rf"{type(optimizer).__name__} \(\nParameter Group 0\n", text)
    assert "    lr: 0.5\n" in text
    for option in optimizer.defaults:
        assert f"    {option}: " in text


def test_every_update_is_counted(make: Maker) -> None:
    optimizer = make(parameters())
    walk(optimizer, 0, 4)
    assert {state["step"] for state in optimizer.state.values()} == {4}
    assert optimizer.param_groups[0]["t"] == 4


def test_defaults_are_what_the_constructor_takes(make: Maker) -> None:
    optimizer = make(parameters())
    again = type(optimizer)(parameters(), **optimizer.defaults)
    assert again.defaults == optimizer.defaults
    assert equal(walk(optimizer), walk(again))


# Schedulers, scalers and averages of torch


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.StepLR(o, 2, gamma=0.5),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 8),
        lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=8, cycle_momentum=False),
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.ExponentialLR(o, 0.5)],
            milestones=[3],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_schedulers_set_its_rate(kind: str, schedule: Any) -> None:
    cls, options = KINDS[kind]
    optimizer, oracle = cls(parameters(), **options), torch.optim.SGD(parameters(), options["lr"])
    scheduled = [schedule(o) for o in (optimizer, oracle)]
    for t in range(8):
        rates = []
        for o, s in zip((optimizer, oracle), scheduled, strict=True):
            walk(o, t, t + 1)
            s.step(*([1.0] if isinstance(s, lr_scheduler.ReduceLROnPlateau) else []))
            rates.append(o.param_groups[0]["lr"])
        assert rates[0] == pytest.approx(rates[1])


def test_a_schedulers_rate_is_obeyed(make: Maker) -> None:
    scheduled, by_hand = make(parameters(), lr=0.1), make(parameters(), lr=0.1)
    schedule = lr_scheduler.ExponentialLR(scheduled, 0.5)
    for t in range(4):
        by_hand.param_groups[0]["lr"] = 0.1 * 0.5**t
        ends = [walk(o, t, t + 1) for o in (scheduled, by_hand)]
        schedule.step()
    assert equal(*ends)


def test_the_gradient_scaler_unscales_and_skips(make: Maker) -> None:
    plain, scaled = make(parameters()), make(parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.zeros(1))
    set_gradients(weights(plain), 0)
    set_gradients(weights(scaled), 0, sign=8.0)
    plain.step()
    scaler.step(scaled)
    scaler.update()
    assert equal(weights(plain), weights(scaled))
    before = [p.detach().clone() for p in weights(scaled)]
    weights(scaled)[0].grad[0] = math.inf  # type: ignore[index]
    scaler.step(scaled)
    assert equal(weights(scaled), before), "an overflow is skipped"
    assert scaled.param_groups[0]["t"] == 1


def test_weights_are_averaged_by_torchs_utilities(make: Maker) -> None:
    model = torch.nn.Linear(4, 2)
    optimizer = make(model.parameters())
    averaged = swa_utils.AveragedModel(model)
    moving = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    schedule = swa_utils.SWALR(optimizer, swa_lr=0.01, anneal_epochs=2)
    seen = []
    for t in range(4):
        walk(optimizer, t, t + 1)
        seen.append(model.weight.detach().clone())
        averaged.update_parameters(model)
        moving.update_parameters(model)
        schedule.step()
    assert torch.allclose(averaged.module.weight, torch.stack(seen).mean(0), atol=1e-6)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert moving.module.weight.isfinite().all()


def test_gradients_may_be_clipped_before_a_step(make: Maker) -> None:
    optimizer = make(parameters())
    set_gradients(weights(optimizer), 0)
    torch.nn.utils.clip_grad_norm_(weights(optimizer), 0.1)
    optimizer.step()
    torch.nn.utils.clip_grad_value_(weights(optimizer), 0.01)
    optimizer.step()


def test_it_warns_of_nothing(make: Maker) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = make(parameters())
        walk(optimizer, 0, 2)
        optimizer.load_state_dict(optimizer.state_dict())
        copy.deepcopy(optimizer).step()
