"""TensorFlow's RMSProp and Adam against their formulas; the others are torch's own classes."""

import copy
import io
import math
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from nos_repro.errors import ConfigError
from nos_repro.optim.factory import make_optimizer
from nos_repro.optim.tensorflow import TensorFlowAdam, TensorFlowRMSprop

NAMES = ("sgd", "momentum", "adam", "adam-tf", "rmsprop", "rmsprop-tf")


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


@pytest.mark.parametrize("name", NAMES)
def test_baselines_take_groups_and_generators(name: str) -> None:
    model = torch.nn.Linear(3, 2)
    make_optimizer(name, model.parameters(), lr=0.1)
    make_optimizer(name, model.named_parameters(), lr=0.1)
    groups = [{"params": model.weight}, {"params": [model.bias], "lr": 0.5}]
    optimizer = make_optimizer(name, groups, lr=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]


def scalar_adam(
    gradients: list[float], lr: float, beta1: float, beta2: float, eps: float, start: float = 1.0
) -> float:
    """`ApplyAdam` of TensorFlow's training_ops.cc, on one number."""
    w, m, v, power1, power2 = start, 0.0, 0.0, 1.0, 1.0
    for g in gradients:
        power1, power2 = power1 * beta1, power2 * beta2
        rate = lr * math.sqrt(1 - power2) / (1 - power1)
        m += (g - m) * (1 - beta1)
        v += (g * g - v) * (1 - beta2)
        w -= rate * m / (math.sqrt(v) + eps)
    return w


def one_weight(name: str, gradients: list[float], **options: Any) -> float:
    p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = make_optimizer(name, [p], **options)
    for g in gradients:
        p.grad = torch.full_like(p, g)
        optimizer.step()
    return p.item()


@pytest.mark.parametrize("foreach", [False, True, None])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
@pytest.mark.parametrize("eps", [1e-8, 1e-3])
@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_tensorflows_adam_is_its_formula(
    betas: tuple[float, float], eps: float, size: float, foreach: bool | None
) -> None:
    gradients = (size * torch.randn(25, dtype=torch.float64)).tolist()
    ours = one_weight("adam-tf", gradients, lr=0.01, betas=betas, eps=eps, foreach=foreach)
    assert ours == pytest.approx(scalar_adam(gradients, 0.01, *betas, eps), abs=1e-12)


def test_tensorflows_adam_is_torchs_with_an_epsilon_that_shrinks_with_the_correction() -> None:
    gradients = [1e-6] * 25
    assert one_weight("adam-tf", gradients, lr=0.01) == pytest.approx(
        one_weight("adam", gradients, lr=0.01), abs=0.1
    )
    assert abs(
        one_weight("adam-tf", gradients, lr=0.01) - one_weight("adam", gradients, lr=0.01)
    ) > 0.02  # fmt: skip
    assert one_weight("adam-tf", gradients, lr=0.01, eps=0.0) == pytest.approx(
        one_weight("adam", gradients, lr=0.01, eps=0.0), abs=1e-12
    )


def walk(optimizer: torch.optim.Optimizer, start: int = 0, end: int = 4) -> list[torch.Tensor]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(start, end):
        for i, p in enumerate(params):
            p.grad = torch.sin(torch.arange(p.numel()) * 1.7 + t + 9 * i).view(p.shape).to(p.dtype)
        optimizer.step()
    return [p.detach().clone() for p in params]


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3).clone()) for _ in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_maximizing_is_minimizing_with_the_opposite_gradient(name: str) -> None:
    up = make_optimizer(name, weights(), lr=0.1, maximize=True)
    down = make_optimizer(name, [torch.nn.Parameter(-p.detach()) for p in weights()], lr=0.1)
    for a, b in zip(walk(up), walk(down), strict=True):
        assert torch.allclose(a, -b)


@pytest.mark.parametrize("name", NAMES)
def test_every_execution_of_a_baseline_gives_the_same_weights(name: str) -> None:
    loop = walk(make_optimizer(name, weights(), lr=0.1, weight_decay=0.1, foreach=False))
    for foreach in (True, None):
        ours = walk(make_optimizer(name, weights(), lr=0.1, weight_decay=0.1, foreach=foreach))
        for a, b in zip(ours, loop, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_the_fused_kernel_is_the_default_and_can_be_turned_off(name: str) -> None:
    made = {fused: make_optimizer(name, weights(), lr=0.1, fused=fused) for fused in (None, False)}
    assert made[None].param_groups[0]["fused"] is True
    assert not made[False].param_groups[0]["fused"]
    assert make_optimizer(name, weights(), lr=0.1, foreach=True).param_groups[0]["fused"] is None


class Clipped(pl.LightningModule):
    """A line that is fitted with any baseline."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.layer = name, torch.nn.Linear(3, 1)

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        return self.layer(batch).square().mean()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.name, self.parameters(), lr=0.1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_clips_the_gradients_of_every_baseline(name: str, precision: Any) -> None:
    module = Clipped(name)
    before = module.layer.weight.detach().clone()
    trainer = pl.Trainer(
        max_steps=2, gradient_clip_val=1.0, precision=precision, accelerator="cpu", devices=1,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(4, 3), batch_size=2))  # type: ignore[arg-type]
    assert trainer.global_step == 2
    assert not torch.equal(before, module.layer.weight)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_scaled_gradient_is_unscaled_once_before_the_fused_kernel(name: str) -> None:
    plain, scaled = (weights() for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for params, factor in ((plain, 1.0), (scaled, 8.0)):
        for p in params:
            p.grad = factor * torch.ones_like(p)
    make_optimizer(name, plain, lr=0.1).step()
    scaler.scale(torch.zeros(1))
    scaler.step(make_optimizer(name, scaled, lr=0.1))
    assert all(map(torch.equal, plain, scaled))


@pytest.mark.parametrize("cls", [TensorFlowAdam, TensorFlowRMSprop])
def test_tensorflows_optimizers_refuse_what_they_cannot_do(cls: Any) -> None:
    with pytest.raises(ConfigError, match="view_as_real"):
        cls([torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))], 0.1)
    for lr in (-1.0, math.nan, torch.tensor(-1.0), torch.zeros(2)):
        with pytest.raises(ConfigError, match="lr must be"):
            cls(weights(), lr)
    optimizer = cls(weights(), 0.1)
    with pytest.raises(ConfigError, match="eps must be"):
        optimizer.add_param_group({"params": weights(), "eps": -1.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("cls", [TensorFlowAdam, TensorFlowRMSprop])
def test_tensorflows_optimizers_keep_torchs_habits(cls: Any) -> None:
    rate = cls(weights(), torch.tensor([0.125]))
    plain = cls(weights(), np.float32(0.125))
    assert all(map(torch.equal, walk(rate), walk(plain)))
    assert type(plain)(weights(), **plain.defaults).defaults == plain.defaults
    state = io.BytesIO()
    torch.save(plain.state_dict(), state)
    state.seek(0)
    again = cls([torch.nn.Parameter(w) for w in walk(plain, 4, 4)], 9.0)
    again.load_state_dict(torch.load(state, weights_only=True))
    twin = copy.deepcopy(plain)
    whole = walk(plain, 4, 7)
    assert all(map(torch.equal, walk(again, 4, 7), whole))
    assert all(map(torch.equal, walk(twin, 4, 7), whole))
    momentum = cls([{"params": weights(), "weight_decay": 0.5}], 0.1)
    assert not all(map(torch.equal, walk(momentum), walk(cls(weights(), 0.1))))


@pytest.mark.parametrize("name", ["adam-tf", "rmsprop-tf"])
def test_torchs_hidden_first_step_leaves_tensorflows_state_at_its_start(name: str) -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    models = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [make_optimizer(name, model.parameters(), lr=0.1) for model in models]
    get_optimizer_state_dict(models[0], optimizers[0])
    for model, optimizer in zip(models, optimizers, strict=True):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert torch.equal(models[0].weight, models[1].weight)
