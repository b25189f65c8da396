"""Odd but legal uses of an optimizer: what torch's own optimizers bear in a user's hands."""

import copy
import json
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward
from torch.nn import Parameter
from torch.utils.flop_counter import FlopCounterMode

from nos_repro import PowerSign, RuleOptimizer

Maker = Callable[..., RuleOptimizer]


@pytest.fixture(params=["PowerSign", "random rule"])
def make(request: pytest.FixtureRequest) -> Maker:
    if request.param == "PowerSign":
        return PowerSign
    text = "adam * ld + 0.1 * drop(m, 0.3) + 0.01 * noise"
    return lambda params: RuleOptimizer(params, text, 0.1, total_steps=50, seed=1)


def parameter(*size: int) -> Parameter:
    return Parameter(torch.randn(size, generator=torch.Generator().manual_seed(0)))


def steps(optimizer: torch.optim.Optimizer, start: int = 0, end: int = 3) -> Tensor:
    """The first parameter after some steps."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(start, end):
        for p in params:
            p.grad = torch.sin(torch.arange(p.numel()) * 1.3 + t).view(p.shape).to(p.dtype)
        optimizer.step()
    first: Tensor = params[0]
    return first.detach().clone()


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "another default device": lambda: torch.device("meta"),
    "a dispatch mode": lambda: FlopCounterMode(display=False),
    "a profiler": lambda: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_of_torch_changes_no_step(make: Maker, mode: str) -> None:
    plain, within = make([parameter(8, 5)]), make([parameter(8, 5)])
    gradient = torch.sin(torch.arange(40.0)).view(8, 5)
    for optimizer in (plain, within):
        optimizer.param_groups[0]["params"][0].grad = gradient.clone()
    plain.step()
    with MODES[mode]():
        within.step()
    assert torch.equal(*(o.param_groups[0]["params"][0] for o in (plain, within)))


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_by_default")
def test_another_default_precision_changes_no_parameter(make: Maker) -> None:
    p = Parameter(torch.randn(8, dtype=torch.float32))
    optimizer = make([p])
    steps(optimizer)
    tensors = [x for x in optimizer.state[p].values() if isinstance(x, Tensor)]
    assert {x.dtype for x in (p, *tensors)} == {torch.float32}


def test_threads_train_side_by_side(make: Maker) -> None:
    found: dict[int, Tensor] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: steps(make([parameter(50)]))}))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[0], found[i]) for i in range(4))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_process_updates_shared_parameters(make: Maker) -> None:
    p = parameter(50)
    p.share_memory_()  # type: ignore[no-untyped-call]
    optimizer, expected = make([p]), steps(make([parameter(50)]))
    child = os.fork()
    if child == 0:
        steps(optimizer)
        os._exit(0)
    os.waitpid(child, 0)
    assert torch.equal(p, expected)


def test_a_gradient_that_holds_no_memory_counts_as_zeros() -> None:
    """Forward-mode differentiation makes such tensors."""
    for fused in (False, True):
        p = parameter(4096)
        before = p.detach().clone()
        optimizer = RuleOptimizer([p], "m + w", lr=0.5, fused=fused)
        p.grad = torch._efficientzerotensor(p.shape)
        optimizer.step()
        assert torch.equal(p, before / 2)


@pytest.mark.parametrize("moved", ["shared", "replaced", "offloaded"])
def test_averages_may_move_in_memory_between_steps(moved: str) -> None:
    """As Hogwild's shared averages do, and those that wait in another memory."""

    def trained(fused: bool, moves: bool) -> Tensor:
        p = parameter(4096)
        optimizer = RuleOptimizer([p], "m", lr=0.1, fused=fused)
        for _ in range(4):
            p.grad = torch.ones_like(p)
            optimizer.step()
            m = optimizer.state[p]["m"]
            if moves and moved == "shared":
                m.share_memory_()  # type: ignore[no-untyped-call]
            elif moves and moved == "replaced":
                m.data = m.data.clone()
            elif moves:
                away = m.data.clone()
                m.data = torch.empty(0)
                m.data = away.clone()
        return p.detach()

    assert torch.allclose(trained(fused=True, moves=True), trained(fused=False, moves=False))


def test_a_parameter_may_lie_in_a_file_or_in_a_larger_tensor(make: Maker, tmp_path: Path) -> None:
    expected = steps(make([parameter(30)]))
    file = np.memmap(tmp_path / "weights", dtype=np.float32, mode="w+", shape=(30,))
    file[:] = parameter(30).detach().numpy()
    steps(make([Parameter(torch.from_numpy(file))]))
    assert np.array_equal(file, expected.numpy())
    flat = torch.cat([torch.zeros(7), parameter(30).detach(), torch.zeros(7)])
    steps(make([Parameter(flat[7:37])]))
    assert torch.equal(flat[7:37], expected)
    assert not flat[:7].any()


def test_a_gradient_may_be_expanded_or_the_parameter_itself(make: Maker) -> None:
    expanded, plain = parameter(6, 5), parameter(6, 5)
    expanded.grad, plain.grad = torch.ones(1, 1).expand(6, 5), torch.ones(6, 5)
    make([expanded]).step()
    make([plain]).step()
    assert torch.equal(expanded, plain)
    own, copied = parameter(6, 5), parameter(6, 5)
    own.grad, copied.grad = own.detach(), copied.detach().clone()
    make([own]).step()
    make([copied]).step()
    assert torch.equal(own, copied)


class Labelled(Tensor):
    """A user's kind of tensor."""


def test_parameters_and_gradients_may_be_of_a_subclass(make: Maker) -> None:
    p = Parameter(parameter(8).detach().as_subclass(Labelled))
    optimizer = make([p])
    for _ in range(2):
        p.grad = torch.ones(8).as_subclass(Labelled)
        optimizer.step()
    assert p.isfinite().all()


def test_every_parameter_may_have_an_optimizer_of_its_own_in_the_backward_pass(make: Maker) -> None:
    params = [parameter(4), parameter(5)]
    optimizers: dict[Tensor, RuleOptimizer] = {p: make([p]) for p in params}

    def update(p: Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in params:
        p.register_post_accumulate_grad_hook(update)  # type: ignore[no-untyped-call]
    before = [p.detach().clone() for p in params]
    sum((p**2).sum() for p in params).backward()  # type: ignore[union-attr]
    assert not any(map(torch.equal, before, params))
    model = nn.Linear(3, 2)
    weight = model.weight.detach().clone()
    _apply_optimizer_in_backward(PowerSign, model.parameters(), {"lr": 0.1})
    model(torch.ones(2, 3)).sum().backward()
    assert not torch.equal(model.weight, weight)


def test_a_model_and_its_optimizer_are_copied_together(make: Maker) -> None:
    model = nn.Linear(5, 7)
    optimizer = make(model.parameters())
    steps(optimizer)
    other_model, other = copy.deepcopy((model, optimizer))
    assert other.param_groups[0]["params"][0] is other_model.weight
    assert torch.equal(steps(optimizer, 3, 5), steps(other, 3, 5))


def test_groups_that_went_through_json_go_on(make: Maker) -> None:
    first, second = make([parameter(8)]), make([parameter(8)])
    second.param_groups[0]["params"][0].data.copy_(steps(first))
    state = first.state_dict()
    state["param_groups"] = json.loads(json.dumps(state["param_groups"]))
    second.load_state_dict(state)
    assert torch.equal(steps(first, 3, 5), steps(second, 3, 5))


def test_groups_and_states_may_be_changed_by_hand(make: Maker) -> None:
    optimizer = make([{"params": [parameter(4)]}, {"params": [parameter(5)]}])
    steps(optimizer)
    optimizer.add_param_group(optimizer.param_groups.pop(0))
    steps(optimizer, 3, 5)
    optimizer.state.clear()
    steps(optimizer, 5, 7)
    optimizer.param_groups[0]["params"] = [parameter(6)]
    steps(optimizer, 7, 9)
    optimizer.param_groups[0]["params"].clear()
    optimizer.step()
    optimizer.param_groups.clear()
    optimizer.step()


def test_infinite_gradients_harm_only_their_own_elements(make: Maker) -> None:
    p = parameter(5)
    p.grad = torch.tensor([torch.inf, torch.nan, -torch.inf, 0.0, 1.0])
    with warnings.catch_warnings(action="error"):
        make([p]).step()
    assert p[3:].isfinite().all()


def test_an_optimizer_of_torchs_is_refused_as_a_state(make: Maker) -> None:
    adam = torch.optim.Adam([parameter(4)])
    steps(adam)
    with pytest.raises(ValueError, match="another update rule"):
        make([parameter(4)]).load_state_dict(adam.state_dict())
