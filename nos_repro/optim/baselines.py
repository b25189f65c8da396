"""The papers' baselines: torch's own classes where they fit, and TensorFlow's RMSProp and Adam.

*Readings of the paper*: momentum 0.9, Adam 0.9 / 0.999 / 1e-8. The authors trained with
TensorFlow, so `rmsprop-tf` is their RMSProp and `adam-tf` their Adam; `rmsprop` and `adam` are
torch's.

torch's fused kernel is the default where it takes all the parameters. Only who asks for it with
`fused=True` gets its own unscaling of gradients, with which Lightning refuses to clip them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer, RMSprop
from torch.optim.optimizer import ParamsT

from nos_repro.optim.registry import OPTIMIZERS
from nos_repro.optim.sharding import is_dtensor
from nos_repro.optim.tensorflow import TensorFlowAdam, TensorFlowRMSprop


@OPTIMIZERS.register("sgd", keeps=0)
def sgd(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    maximize: bool = False,
    foreach: bool | None = None,
    fused: bool | None = None,
) -> Optimizer:
    """w <- w - lr * g."""
    params, kernel = _listed(params, foreach, fused, shards=False)
    made = SGD(
        params, lr=lr, weight_decay=weight_decay, maximize=maximize, foreach=foreach, fused=kernel
    )
    return _plainly_scaled(made, fused)


@OPTIMIZERS.register("momentum", keeps=1)
def momentum(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
    maximize: bool = False,
    foreach: bool | None = None,
    fused: bool | None = None,
) -> Optimizer:
    """SGD with momentum: the rate multiplies the buffer, in torch as in TensorFlow."""
    params, kernel = _listed(params, foreach, fused, shards=False)
    made = SGD(
        params,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        maximize=maximize,
        foreach=foreach,
        fused=kernel,
    )
    return _plainly_scaled(made, fused)


@OPTIMIZERS.register("adam", keeps=2)
def adam(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    decoupled_weight_decay: bool = False,
    amsgrad: bool = False,
    maximize: bool = False,
    foreach: bool | None = None,
    fused: bool | None = None,
    capturable: bool = False,
) -> Optimizer:
    """Adam; TensorFlow adds epsilon before the bias correction of v, torch after it."""
    params, kernel = _listed(params, foreach, fused)
    made = Adam(
        params,
        lr=_rate(lr, params, capturable),
        betas=(betas[0], betas[1]),
        eps=eps,
        weight_decay=weight_decay,
        decoupled_weight_decay=decoupled_weight_decay,
        amsgrad=amsgrad,
        maximize=maximize,
        foreach=foreach,
        fused=kernel,
        capturable=capturable,
    )
    return _plainly_scaled(made, fused)


@OPTIMIZERS.register("adam-tf", keeps=2)
def adam_tf(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
    foreach: bool | None = None,
    capturable: bool = False,
) -> Optimizer:
    """TensorFlow's Adam (`tf.train.AdamOptimizer`, its defaults)."""
    return TensorFlowAdam(
        params,
        lr,
        betas,
        eps,
        weight_decay,
        maximize=maximize,
        foreach=foreach,
        capturable=capturable,
    )


@OPTIMIZERS.register("rmsprop", keeps=1)
def rmsprop(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
    foreach: bool | None = True,
    capturable: bool = False,
) -> Optimizer:
    """torch's RMSProp: the average of squares starts at 0, epsilon is added to the root."""
    params, _ = _listed(params, foreach, None)
    return RMSprop(
        params,
        lr=_rate(lr, params, capturable),
        alpha=alpha,
        eps=eps,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
        maximize=maximize,
        foreach=foreach,
        capturable=capturable,
    )


@OPTIMIZERS.register("rmsprop-tf", keeps=1)
def rmsprop_tf(
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    decay: float = 0.9,
    momentum: float = 0.0,
    eps: float = 1e-10,
    centered: bool = False,
    maximize: bool = False,
    foreach: bool | None = None,
    capturable: bool = False,
) -> Optimizer:
    """TensorFlow's RMSProp (`tf.train.RMSPropOptimizer`, its defaults)."""
    return TensorFlowRMSprop(
        params,
        lr,
        decay,
        momentum,
        eps,
        weight_decay,
        centered,
        maximize=maximize,
        foreach=foreach,
        capturable=capturable,
    )


def _listed(
    params: ParamsT, foreach: bool | None, fused: bool | None, *, shards: bool = True
) -> tuple[list[Any], bool | None]:
    """The parameters or groups, and torch's `fused`: whether its kernel updates them.

    Where no execution is asked for, it does if it takes them all. ``shards``: torch has this kernel
    for parameters that are spread over processes too.
    """
    items: list[Any] = [
        {**item, "params": _tensors(item["params"])} if isinstance(item, dict) else item
        for item in params
    ]
    if foreach is not None or fused is not None:
        return items, fused
    tensors = [p for item in items for p in _tensors(item)]
    ready = all(
        p.is_floating_point() and p.device.type in ("cpu", "cuda") and (shards or not is_dtensor(p))
        for p in tensors
    )
    return items, True if ready else None


def _rate(lr: float, params: list[Any], capturable: bool) -> float | Tensor:
    """The rate; for CUDA graphs a tensor where the parameters are, which schedules fill."""
    if not capturable:
        return lr
    devices = [p.device for item in params for p in _tensors(item)]
    return torch.tensor(lr, device=devices[0] if devices else None)


def _plainly_scaled(optimizer: Optimizer, fused: bool | None) -> Optimizer:
    """The optimizer, which leaves the unscaling of gradients to others unless asked for `fused`.

    The fused kernel is then only faster: gradients may be clipped, as with any other execution.
    """
    if not fused:
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


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
