"""Gradients as an environment lets them through: rounded to a few bits, noisy, sent by workers.

The scaled sign of one bit and the feedback of its error are 1-bit SGD's (Seide et al. 2014);
stochastic rounding to a few levels per tensor is QSGD's (Alistarh et al. 2017), with the largest
absolute value as the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nos_repro.errors import ConfigError
from nos_repro.experiments.environment import Environment
from nos_repro.tasks.base import TaskData

STREAM = 3
"""First word of the seeds: it keeps the draws apart from those of the data (`data.batches`)."""


def rounded(
    gradient: Tensor, bits: int, rounding: str, generator: torch.Generator | None = None
) -> Tensor:
    """A gradient as it arrives with this many bits per value (`Environment.bits`).

    NaN and infinities make all of it NaN, so that a divergence is seen at the next loss.
    """
    size = gradient.abs()
    if bits == 1:
        return gradient.sign() * size.mean()
    most = 2 ** (bits - 1) - 1
    scale = size.max() / most
    levels = gradient / torch.where(scale == 0, 1.0, scale)
    if rounding == "nearest":
        levels = levels.round()
    else:
        chance = torch.rand(
            gradient.shape, generator=generator, dtype=gradient.dtype, device=gradient.device
        )
        levels = (levels + chance).floor()
    sent: Tensor = levels.clamp(-most, most) * scale
    return sent


class EnvironmentGradients:
    """The gradients that an optimizer gets instead of a batch's own, step by step.

    In each step, the gradient of every worker is handed to `take`; then `deliver` puts the mean of
    what they sent into the parameters. What is drawn depends on the seed, the step and the worker
    alone.
    """

    def __init__(self, environment: Environment, params: Sequence[Tensor], seed: int) -> None:
        self.environment = environment
        self.params = [p for p in params if p.requires_grad]
        self.seed = seed
        self._sums: list[Tensor | None] = [None] * len(self.params)
        self._lost: list[list[Tensor | None]] = [
            [None] * len(self.params) for _ in range(environment.workers)
        ]

    def take(self, worker: int, step: int) -> None:
        """Sends a worker's gradients, which are in the parameters now."""
        generator = self._generator(worker, step)
        lost = self._lost[worker]
        for i, param in enumerate(self.params):
            if param.grad is None:
                continue
            sent = self._sent(param.grad, lost, i, generator) / self.environment.workers
            total = self._sums[i]
            self._sums[i] = sent if total is None else total + sent

    def deliver(self) -> None:
        """Makes the mean of the workers' messages the parameters' gradients."""
        for param, total in zip(self.params, self._sums, strict=True):
            param.grad = total
        self._sums = [None] * len(self.params)

    def _sent(
        self, gradient: Tensor, lost: list[Tensor | None], i: int, generator: torch.Generator
    ) -> Tensor:
        environment = self.environment
        if environment.noise:
            strength = environment.noise * gradient.square().mean().sqrt()
            drawn = torch.empty_like(gradient).normal_(generator=generator)
            gradient = gradient + strength * drawn
        if environment.bits is None:
            return gradient
        before = lost[i]
        wanted = gradient if before is None else gradient + before
        sent = rounded(wanted, environment.bits, environment.rounding, generator)
        if environment.error_feedback:
            lost[i] = wanted - sent
        return sent

    def _generator(self, worker: int, step: int) -> torch.Generator:
        device = self.params[0].device
        (word,) = np.random.SeedSequence([STREAM, self.seed, step, worker]).generate_state(1)
        return torch.Generator(device).manual_seed(int(word))

    def state_dict(self) -> dict[str, Any]:
        """What rounding has lost so far, of each worker and parameter."""
        return {"lost": self._lost}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for the state of another number of workers or parameters."""
        lost = state["lost"]
        if [len(each) for each in lost] != [len(each) for each in self._lost]:
            raise ValueError("the checkpoint is of other workers or parameters")
        self._lost = [
            [part if part is None else part.to(self.params[0].device) for part in each]
            for each in lost
        ]


def check_environment(environment: Environment | None, data: TaskData, world: int) -> None:
    """Raises ConfigError if the environment's workers cannot share a batch in equal parts."""
    if environment is None or environment.workers == 1:
        return
    where, workers = "training.environment.workers", environment.workers
    if world > 1:
        raise ConfigError(f"{where}: {workers} simulated workers need a trial of one process")
    if type(data).train_share is not TaskData.train_share:
        raise ConfigError(f"{where} must be 1: a batch of this task has no parts, got {workers}")
    batch_size = getattr(getattr(data, "settings", None), "batch_size", workers)
    if batch_size % workers:
        raise ConfigError(f"{where} must divide task.batch_size ({batch_size}), got {workers}")
