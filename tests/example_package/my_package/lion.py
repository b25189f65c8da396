"""An optimizer: Lion (Chen et al. 2023), without weight decay for biases and norms.

rows:
  Lion: {optimizer: my_package.lion, options: {betas: [0.9, 0.99]}, sweep: {lr: [0.003]}}
"""

from collections.abc import Iterable

import torch
from torch.nn import Parameter

from nos_repro.optim import OPTIMIZERS


@OPTIMIZERS.register("lion")
def lion(
    named_parameters: Iterable[tuple[str, Parameter]],
    *,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.99),
) -> torch.optim.Optimizer:
    """The keywords are the options of a row. A maker that needs no names calls its first parameter
    `params`, and gets the parameters alone."""
    plain, matrices = [], []
    for name, parameter in named_parameters:
        (plain if name.endswith("bias") or parameter.ndim < 2 else matrices).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": plain}]
    return Lion([group for group in groups if group["params"]], lr, betas)


class Lion(torch.optim.Optimizer):
    """w <- w - lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)."""

    def __init__(self, params: list[dict], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = torch.lerp(p.grad, m, beta1).sign_().add_(p, alpha=group["weight_decay"])
                p.sub_(update, alpha=group["lr"])
                m.lerp_(p.grad, 1 - beta2)
