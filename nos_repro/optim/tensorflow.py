"""TensorFlow's RMSProp and Adam, as the papers' authors trained with (TensorFlow 1.x)."""

from collections.abc import Callable
from typing import Any, TypeAlias, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from nos_repro.errors import SparseGradientError
from nos_repro.optim.capture import UpdateCounts, check_capture, is_capturing, put_on_device
from nos_repro.optim.groups import is_empty_step
from nos_repro.optim.options import (
    check_dense_and_real,
    check_flags,
    checked_rate,
    fraction,
    fractions,
    nonnegative,
)

Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


class TensorFlowOptimizer(Optimizer):
    """What the two share: groups and their checks, the frame of a step, and its two executions."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with their own options. Raises ConfigError for impossible ones."""
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1])
            for p in self.param_groups[-1]["params"]:
                check_dense_and_real(p, type(self).__name__)
        except Exception:
            self.param_groups.pop()
            raise
        if self.param_groups[-1]["capturable"]:
            put_on_device(self.param_groups[-1])

    def _check(self, options: dict[str, Any]) -> None:
        options["lr"] = checked_rate(options["lr"])
        for name in ("eps", "weight_decay"):
            options[name] = nonnegative(name, options[name])
        check_flags(options, "maximize", "foreach", "capturable")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fills the options that older versions did not have."""
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch adds it here
        for options in [self.defaults, *self.param_groups]:
            options.setdefault("maximize", False)
            options.setdefault("foreach", None)
            options.setdefault("capturable", False)

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
        if is_capturing():
            check_capture(self)
        # torch.distributed.checkpoint takes an empty step before the first one, to make the state
        empty = not self.state and is_empty_step(self.param_groups)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if p.grad.layout != torch.strided:
                    raise SparseGradientError(
                        f"{type(self).__name__} needs dense gradients, got a sparse one"
                    )
                self._start(p, group)
            if params and not empty:
                self._step_group(params, group)
        return loss

    def _step_group(self, params: list[Tensor], group: dict[str, Any]) -> None:
        self._count(params, group)
        for part in [[p] for p in params] if group["foreach"] is False else [params]:
            gradients: Tensors = [p.grad for p in part if p.grad is not None]
            if group["maximize"]:
                gradients = torch._foreach_neg(gradients)
            if group["weight_decay"] != 0:
                gradients = torch._foreach_add(gradients, part, alpha=group["weight_decay"])
            self._update(part, gradients, group)

    def _count(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """UpdateCounts an update of these parameters."""
        if not group["capturable"]:
            for p in params:
                self.state[p]["step"] = int(self.state[p]["step"]) + 1
            return
        put_on_device(group)
        counts = UpdateCounts()
        for p in params:
            counts.add(self.state[p], p.device)
        counts.advance(
            [self.state[p] for p in group["params"] if p.grad is None and p in self.state]
        )

    def _start(self, p: Tensor, group: dict[str, Any]) -> None:
        """Makes what the state of a parameter lacks."""
        raise NotImplementedError

    def _update(self, params: list[Tensor], gradients: Tensors, group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _states(self, name: str, params: list[Tensor]) -> list[Tensor]:
        return [self.state[p][name] for p in params]


class TensorFlowRMSprop(TensorFlowOptimizer):
    """`tf.train.RMSPropOptimizer`.

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
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "decay": decay,
            "momentum": momentum,
            "eps": eps,
            "weight_decay": weight_decay,
            "centered": centered,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
        }
        self._check(defaults)
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        for name in ("decay", "momentum"):
            options[name] = fraction(name, options[name])
        check_flags(options, "centered")

    def _start(self, p: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if "step" not in state:
            state["step"] = 0
            state["square"] = torch.ones_like(p, memory_format=torch.preserve_format)
        if group["momentum"] > 0 and "buffer" not in state:
            state["buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        if group["centered"] and "mean" not in state:
            state["mean"] = torch.zeros_like(p, memory_format=torch.preserve_format)

    def _update(self, params: list[Tensor], gradients: Tensors, group: dict[str, Any]) -> None:
        decay, square = group["decay"], self._states("square", params)
        torch._foreach_mul_(square, decay)
        torch._foreach_addcmul_(square, gradients, gradients, value=1 - decay)
        variance: Tensors = square
        if group["centered"]:
            mean = self._states("mean", params)
            torch._foreach_lerp_(mean, gradients, 1 - decay)
            variance = torch._foreach_addcmul(square, mean, mean, value=-1)
        root = torch._foreach_add(variance, group["eps"])
        torch._foreach_sqrt_(root)
        change: Tensors = torch._foreach_div(gradients, root)
        torch._foreach_mul_(change, _rate(group))
        if group["momentum"] > 0:
            buffer = self._states("buffer", params)
            torch._foreach_mul_(buffer, group["momentum"])
            torch._foreach_add_(buffer, change)
            change = buffer
        torch._foreach_sub_(params, change)


class TensorFlowAdam(TensorFlowOptimizer):
    """`tf.train.AdamOptimizer`.

        w <- w - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)

    Unlike in torch's, epsilon is added to the root of v before its bias correction ("epsilon hat"
    at the end of section 2 of Kingma and Ba, 2014): it counts for more in the first updates.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
        }
        self._check(defaults)
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        options["betas"] = fractions("betas", options["betas"], 2)

    def _start(self, p: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if "step" not in state:
            state["step"] = 0
            for name in ("m", "v"):
                state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)

    def _update(self, params: list[Tensor], gradients: Tensors, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        m, v = self._states("m", params), self._states("v", params)
        torch._foreach_mul_(m, beta1)
        torch._foreach_add_(m, gradients, alpha=1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, gradients, gradients, value=1 - beta2)
        divisor = torch._foreach_sqrt(v)
        torch._foreach_add_(divisor, group["eps"])
        change = torch._foreach_div(m, divisor)
        steps = {id(t): t for t in (self.state[p]["step"] for p in params)}
        known = {key: _correction(t, beta1, beta2) for key, t in steps.items()}
        corrections: Any = [known[id(self.state[p]["step"])] for p in params]
        torch._foreach_mul_(change, corrections)
        torch._foreach_mul_(change, _rate(group))
        torch._foreach_sub_(params, change)


def _correction(t: Any, beta1: float, beta2: float) -> Any:
    if isinstance(t, Tensor):
        t = t.to(torch.float64)
    return (1 - beta2**t) ** 0.5 / (1 - beta1**t)


def _rate(group: dict[str, Any]) -> Any:
    lr = group["lr"]
    return lr.reshape(()) if isinstance(lr, Tensor) else lr
