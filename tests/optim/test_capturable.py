"""`capturable=True`: the numbers that it gives without, and a step that reads nothing back."""

import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from nos_repro import RuleOptimizer, make_optimizer, make_schedule
from nos_repro.bench.waits import counted
from nos_repro.errors import ConfigError
from nos_repro.optim import batch
from nos_repro.optim.device_keys import keys_at
from nos_repro.optim.draws import make_key
from nos_repro.rules.catalog import CATALOG

RULES = sorted({str(entry.rule) for entry in CATALOG.values()})
MORE = ["g3 * rd10 + annealed_noise", "2 ** (cd3 * sign(g) * sign(m)) * gamma", "1", "ld * cd"]
OWN = ["adam-tf", "rmsprop-tf"]  # those of torch refuse a CPU
SHAPES = [(33, 7), (16,), (5,), (), (8, 4, 3, 3)]
T = 6


def trained(
    name: str, start: int = 0, end: int = T, state: Any = None, idle: bool = False, **options: Any
) -> tuple[list[Tensor], Any]:
    """The parameters after the steps from `start` to `end`, and the optimizer's state."""
    draw = torch.Generator().manual_seed(0)
    params = [Parameter(torch.randn(shape, generator=draw)) for shape in SHAPES]
    given: dict[str, Any] = {} if name in OWN else {"total_steps": T, "seed": 4}
    optimizer = make_optimizer(name, params, lr=0.05, weight_decay=0.01, **given, **options)
    schedule = make_schedule("linear_cosine", optimizer, total_steps=T)
    if state is not None:
        weights, saved, scheduled = copy.deepcopy(state)
        optimizer.load_state_dict(saved)
        schedule.load_state_dict(scheduled)
        for p, w in zip(params, weights, strict=True):
            p.data.copy_(w)
    for t in range(start, end):
        for i, p in enumerate(params):
            p.grad = torch.sin(torch.arange(p.numel()) * 1.7 + t + 31 * i).view(p.shape)
            if idle and (t + i) % 3 == 0:
                p.grad = None
        optimizer.step()
        schedule.step()
    weights = [p.detach() for p in params]
    return weights, (weights, optimizer.state_dict(), schedule.state_dict())


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("rule", [*RULES, *MORE, *OWN])
def test_it_changes_no_bit(rule: str) -> None:
    name = rule if rule in OWN else f"rule: {rule}"
    assert same(trained(name)[0], trained(name, capturable=True)[0])


@pytest.mark.parametrize("rule", ["exp(ld * sign(g) * sign(m)) * g", "drop(adam, 0.3) + noise"])
def test_it_changes_no_bit_of_a_fused_update(rule: str) -> None:
    options = {"fused": True}
    assert same(
        trained(f"rule: {rule}", **options)[0],
        trained(f"rule: {rule}", capturable=True, **options)[0],
    )


@pytest.mark.parametrize("name", ["rule: adam * ld + drop(g, 0.2)", "powersign-cd", *OWN])
@pytest.mark.parametrize("first", [True, False])
def test_a_state_goes_from_one_to_the_other(name: str, first: bool) -> None:
    whole, _ = trained(name)
    _, state = trained(name, end=3, capturable=first)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    resumed, (_, saved, _) = trained(name, start=3, state=state, capturable=not first)
    assert same(whole, resumed)
    if name not in OWN:  # as in torch, the saved option counts there
        assert isinstance(saved["param_groups"][0]["lr"], Tensor) is not first
        assert isinstance(saved["state"][0]["step"], Tensor) is not first


@pytest.mark.parametrize("name", ["rule: adam", "adam-tf"])
def test_parameters_that_miss_updates_keep_their_own_count(name: str) -> None:
    assert same(trained(name, idle=True)[0], trained(name, idle=True, capturable=True)[0])


def test_parameters_that_miss_none_share_one_count() -> None:
    _, (_, saved, _) = trained("rule: adam", capturable=True)
    steps = {id(state["step"]) for state in saved["state"].values()}
    assert len(steps) == 1
    assert saved["state"][0]["step"] == T


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("name", ["rule: drop(adam, 0.3) + cd * noise", "addsign-ld", *OWN])
def test_a_step_and_its_schedule_read_nothing_back_and_send_nothing(
    name: str, fused: bool | None
) -> None:
    if name in OWN and fused:
        pytest.skip("has one execution")
    params = [Parameter(torch.ones(shape)) for shape in SHAPES]
    options = {"fused": fused} if fused else {}
    options |= {} if name in OWN else {"total_steps": T}
    optimizer = make_optimizer(name, params, lr=0.1, capturable=True, **options)
    schedule = make_schedule("cosine", optimizer, total_steps=T)
    for p in params:
        p.grad = torch.ones_like(p)
    for _ in range(2):  # the first makes the state
        optimizer.step()
        schedule.step()
    with counted("cpu") as waits:
        optimizer.step()
        schedule.step()
    assert str(waits) == "no waits"


def test_the_rate_is_a_tensor_that_a_schedule_and_a_loaded_state_fill() -> None:
    p = Parameter(torch.ones(4))
    optimizer = RuleOptimizer([p], "g", 0.5, capturable=True)
    rate = optimizer.param_groups[0]["lr"]
    schedule = make_schedule("cosine", optimizer, total_steps=2)
    p.grad = torch.ones(4)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == 0.25
    optimizer.load_state_dict(RuleOptimizer([p], "g", 0.125).state_dict())
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == 0.125


def test_a_capture_needs_a_state_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    p = Parameter(torch.ones(4))
    p.grad = torch.ones(4)
    optimizer = RuleOptimizer([p], "m", 0.5, capturable=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(ConfigError, match="take a step before the capture"):
            optimizer.step()
    optimizer.step()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    optimizer.step()


@given(
    st.integers(-(10**12), 10**12),
    st.integers(0, 10**12),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_keys_made_on_a_device_are_those_of_hashlib(
    seed: int, t: int, tensors: list[int], sites: int
) -> None:
    expected = [[list(make_key(seed, t, n, site)) for site in range(sites)] for n in tensors]
    assert keys_at(seed, torch.tensor(t), tuple(tensors), sites).tolist() == expected


def test_the_keys_of_all_tensors_are_hashed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        batch,
        "keys_at",
        lambda *a: calls.append(a[2]) or keys_at(*a),  # type: ignore[func-returns-value]
    )
    params = [Parameter(torch.ones(5)) for _ in range(7)]
    for p in params:
        p.grad = torch.ones_like(p)
    rule = "drop(g, 0.3) + noise"
    RuleOptimizer(params, rule, 0.1, capturable=True, fused=False, foreach=False).step()
    assert calls == [tuple(range(7))]


def test_a_seed_that_leaves_no_room_for_the_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="60 digits"):
        keys_at(10**120, torch.tensor(0), (0,), 1)
