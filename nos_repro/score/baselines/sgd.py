"""SGD with Nesterov's momentum of 0.9, a warm-up and a cosine decay to 0."""

import math
from typing import Any

import torch


class WarmSGD(torch.optim.SGD):
    """torch's SGD that sets its own rate; ``lr`` is the highest."""

    def __init__(self, params: Any, lr: float, total_steps: int, warm_up: float = 0.05) -> None:
        super().__init__(params, lr=lr, momentum=0.9, nesterov=True)
        for group in self.param_groups:
            group.update(highest=lr, updates=0, total_steps=total_steps, warm_up=warm_up)

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            done = (group["updates"] + 1) / group["total_steps"]
            warm = min(1.0, done / group["warm_up"])
            group["lr"] = group["highest"] * warm * (1 + math.cos(math.pi * min(1.0, done))) / 2
            group["updates"] += 1
        return super().step(closure)
