"""TensorFlow's RMSProp against its formula; the others are torch's own classes."""

import math

import pytest
import torch

from nos_repro.errors import ConfigError
from nos_repro.optim.baselines import TensorFlowRMSprop
from nos_repro.optim.factory import make_optimizer


def scalar_rmsprop(gradients: list[float], lr: float, decay: float, momentum: float, eps: float):  # type: ignore[no-untyped-def]
    """`ApplyRMSProp` of TensorFlow's training_ops.cc, on one number."""
    w, ms, mom = 1.0, 1.0, 0.0
    for g in gradients:
        ms += (g * g - ms) * (1 - decay)
        mom = mom * momentum + lr * g / math.sqrt(ms + eps)
        w -= mom
    return w


def scalar_centered(gradients: list[float], lr: float, decay: float, momentum: float, eps: float):  # type: ignore[no-untyped-def]
    """`ApplyCenteredRMSProp`."""
    w, ms, mg, mom = 1.0, 1.0, 0.0, 0.0
    for g in gradients:
        ms += (g * g - ms) * (1 - decay)
        mg += (g - mg) * (1 - decay)
        mom = mom * momentum + lr * g / math.sqrt(ms - mg * mg + eps)
        w -= mom
    return w


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("eps", [1e-10, 1.0])
def test_tensorflows_rmsprop_is_its_formula(momentum: float, centered: bool, eps: float) -> None:
    gradients = torch.randn(30, dtype=torch.float64).tolist()
    p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = make_optimizer(
        "rmsprop-tf", [p], lr=0.01, decay=0.9, momentum=momentum, eps=eps, centered=centered
    )
    for g in gradients:
        p.grad = torch.full_like(p, g)
        optimizer.step()
    oracle = scalar_centered if centered else scalar_rmsprop
    assert p.item() == pytest.approx(oracle(gradients, 0.01, 0.9, momentum, eps), abs=1e-12)


def test_a_large_epsilon_tells_the_two_rmsprops_apart() -> None:
    steps = {}
    for name in ("rmsprop", "rmsprop-tf"):
        p = torch.nn.Parameter(torch.ones(1))
        optimizer = make_optimizer(name, [p], lr=0.1, eps=1.0)
        p.grad = torch.ones(1)
        optimizer.step()
        steps[name] = 1 - p.item()
    assert steps["rmsprop-tf"] == pytest.approx(0.1 / math.sqrt(2))
    assert steps["rmsprop"] == pytest.approx(0.1 / (0.1 + 1))


def test_tensorflows_rmsprop_resumes_bit_for_bit() -> None:
    def walk(p: torch.nn.Parameter, optimizer: TensorFlowRMSprop, start: int, end: int) -> None:
        for t in range(start, end):
            p.grad = torch.sin(torch.arange(5.0) + t)
            optimizer.step()

    def fresh(w: torch.Tensor) -> tuple[torch.nn.Parameter, TensorFlowRMSprop]:
        p = torch.nn.Parameter(w.clone())
        return p, TensorFlowRMSprop([p], 0.01, momentum=0.9, centered=True)

    p, whole = fresh(torch.ones(5))
    walk(p, whole, 0, 20)
    q, first = fresh(torch.ones(5))
    walk(q, first, 0, 7)
    r, second = fresh(q.detach())
    second.load_state_dict(first.state_dict())
    walk(r, second, 7, 20)
    assert torch.equal(p, r)


def test_tensorflows_rmsprop_refuses_sparse_gradients() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = TensorFlowRMSprop([p], 0.1)
    p.grad = torch.sparse_coo_tensor(
        torch.tensor([[1]]), torch.tensor([1.0]), (3,), check_invariants=True
    )
    with pytest.raises(ConfigError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"momentum": -1.0}, {"eps": -1.0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        make_optimizer("rmsprop-tf", [torch.nn.Parameter(torch.zeros(1))], lr=0.1, **options)


@pytest.mark.parametrize(
    ("name", "cls", "options"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0}),
        ("momentum", torch.optim.SGD, {"momentum": 0.9}),
        ("adam", torch.optim.Adam, {"betas": (0.9, 0.999), "eps": 1e-8}),
        ("rmsprop", torch.optim.RMSprop, {}),
    ],
)
def test_the_other_baselines_are_torchs_with_the_papers_settings(
    name: str, cls: type, options: dict[str, object]
) -> None:
    optimizer = make_optimizer(
        name, [torch.nn.Parameter(torch.zeros(1))], lr=0.1, weight_decay=1e-4
    )
    assert type(optimizer) is cls
    group = optimizer.param_groups[0]
    assert {**options, "lr": 0.1, "weight_decay": 1e-4}.items() <= group.items()


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "rmsprop", "rmsprop-tf"])
def test_baselines_take_groups_and_generators(name: str) -> None:
    model = torch.nn.Linear(3, 2)
    make_optimizer(name, model.parameters(), lr=0.1)
    make_optimizer(name, model.named_parameters(), lr=0.1)
    groups = [{"params": model.weight}, {"params": [model.bias], "lr": 0.5}]
    optimizer = make_optimizer(name, groups, lr=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
