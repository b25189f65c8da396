"""The papers' baselines: torch's own classes where they fit, and TensorFlow's RMSProp.

*Readings of the paper*: momentum 0.9, Adam 0.9 / 0.999 / 1e-8. The authors trained with
TensorFlow, so `rmsprop-tf` is their RMSProp; `rmsprop` is torch's.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, overload

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer, RMSprop
from torch.optim.optimizer import ParamsT

from nos_repro.errors import ConfigError
from nos_repro.optim.registry import OPTIMIZERS

Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


@OPTIMIZERS.register("sgd")
def sgd(params: ParamsT, *, lr: float, weight_decay: float = 0.0) -> Optimizer:
    """w <- w - lr * g."""
    params, fused = _listed(params)
    return SGD(params, lr=lr, weight_decay=weight_decay, fused=fused)


@OPTIMIZERS.register("momentum")
def momentum(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> Optimizer:
    """SGD with momentum: the rate multiplies the buffer, in torch as in TensorFlow."""
    params, fused = _listed(params)
    return SGD(
        params,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        fused=fused,
    )


@OPTIMIZERS.register("adam")
def adam(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    decoupled_weight_decay: bool = False,
) -> Optimizer:
    """Adam; TensorFlow adds epsilon before the bias correction of v, torch after it."""
    params, fused = _listed(params)
    return Adam(
        params,
        lr=lr,
        betas=(betas[0], betas[1]),
        eps=eps,
        weight_decay=weight_decay,
        decoupled_weight_decay=decoupled_weight_decay,
        fused=fused,
    )


@OPTIMIZERS.register("rmsprop")
def rmsprop(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
) -> Optimizer:
    """torch's RMSProp: the average of squares starts at 0, epsilon is added to the root."""
    return RMSprop(
        params,
        lr=lr,
        alpha=alpha,
        eps=eps,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
        foreach=True,
    )


@OPTIMIZERS.register("rmsprop-tf")
def rmsprop_tf(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    decay: float = 0.9,
    momentum: float = 0.0,
    eps: float = 1e-10,
    centered: bool = False,
) -> Optimizer:
    """TensorFlow's RMSProp (`tf.train.RMSPropOptimizer`, its defaults)."""
    return TensorFlowRMSprop(params, lr, decay, momentum, eps, weight_decay, centered)


class TensorFlowRMSprop(Optimizer):
    """`tf.train.RMSPropOptimizer` (TensorFlow 1.x).

    Unlike in torch's, epsilon is inside the square root, the average of squares starts at 1, and
    the learning rate goes into the momentum buffer.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        decay: float = 0.9,
        momentum: float = 0.0,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        centered: bool = False,
    ) -> None:
        for name, value in [("decay", decay), ("momentum", momentum)]:
            if not 0 <= value < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {value!r}")
        for name, value in [("eps", eps), ("weight_decay", weight_decay)]:
            if not value >= 0:
                raise ConfigError(f"{name} must be >= 0, got {value!r}")
        super().__init__(
            params,
            {
                "lr": lr,
                "decay": decay,
                "momentum": momentum,
                "eps": eps,
                "weight_decay": weight_decay,
                "centered": centered,
            },
        )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if p.grad.layout != torch.strided:
                    raise ConfigError("RMSProp needs dense gradients, got a sparse one")
                self._start(p, group)
            if params:
                self._update(params, group)
        return loss

    def _start(self, p: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["square"] = torch.ones_like(p, memory_format=torch.preserve_format)
            if group["momentum"] > 0:
                state["buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            if group["centered"]:
                state["mean"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        state["step"] += 1

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        def average(name: str) -> list[Tensor]:
            return [self.state[p][name] for p in params]

        gradients: Tensors = [p.grad for p in params if p.grad is not None]
        decay, square = group["decay"], average("square")
        if group["weight_decay"] != 0:
            gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        torch._foreach_mul_(square, decay)
        torch._foreach_addcmul_(square, gradients, gradients, value=1 - decay)
        variance: Tensors = square
        if group["centered"]:
            mean = average("mean")
            torch._foreach_lerp_(mean, gradients, 1 - decay)
            variance = torch._foreach_addcmul(square, mean, mean, value=-1)
        root = torch._foreach_add(variance, group["eps"])
        torch._foreach_sqrt_(root)
        change: Tensors = torch._foreach_div(gradients, root)
        torch._foreach_mul_(change, group["lr"])
        if group["momentum"] > 0:
            buffer = average("buffer")
            torch._foreach_mul_(buffer, group["momentum"])
            torch._foreach_add_(buffer, change)
            change = buffer
        torch._foreach_sub_(params, change)


def _listed(params: ParamsT) -> tuple[list[Any], bool | None]:
    """The parameters or groups, and True if torch's fused kernel takes them all (else None)."""
    items: list[Any] = [
        {**item, "params": _tensors(item["params"])} if isinstance(item, dict) else item
        for item in params
    ]
    tensors = [p for item in items for p in _tensors(item)]
    ready = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in tensors)
    return items, True if ready else None


def _tensors(item: Any) -> list[Tensor]:
    """The tensors of a group, of a parameter with or without a name, or of several."""
    match item:
        case Tensor():
            return [item]
        case {"params": members}:
            return _tensors(members)
        case (str(), Tensor() as p):
            return [p]
        case _:
            return [p for member in item for p in _tensors(member)]
