"""Optimizers that train some weights and evaluate others, such as the schedule-free ones.

They have `train()` and `eval()`. What is evaluated is an average of the weights, computed in place;
going back in arithmetic would round. So the weights are kept aside meanwhile, and an evaluation or
a checkpoint changes nothing of the training, whenever it happens.

Batch norm's running statistics are those of the weights that are trained, so they do not fit the
average: they are counted again over the first batches of the training data, as the authors of
schedule-free optimizers advise, and put back afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

NORM_BATCHES = 50
"""Over which batch norm's statistics are counted again; schedule-free's README takes as many."""


def has_modes(optimizer: Any) -> TypeGuard[Any]:
    """Whether the optimizer has to be told, by `train()` and `eval()`, what comes next."""
    return all(callable(getattr(optimizer, word, None)) for word in ("train", "eval"))


class Modes:
    """Switches an optimizer to the weights that are evaluated, and back. For an optimizer without
    modes it does nothing."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer: Any = optimizer if has_modes(optimizer) else None
        self.evaluates = False
        if self.optimizer is not None:
            self.optimizer.train()

    @contextmanager
    def evaluating(
        self,
        model: nn.Module | None = None,
        batches: Callable[[], Iterable[Any]] = tuple,
        train: Callable[[Any], object] = lambda batch: None,
    ) -> Iterator[None]:
        """Within, the parameters are those to evaluate. If the ``model`` has batch norm, its
        statistics are those of the first ``batches``, which ``train`` passes through the model."""
        if self.optimizer is None or self.evaluates:
            yield
            return
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        kept = [p.detach().clone() for p in params]
        norms = [m for m in model.modules() if _counts(m)] if model is not None else []
        before = [{name: b.clone() for name, b in m.named_buffers()} for m in norms]
        self.evaluates = True
        self.optimizer.eval()
        try:
            if norms:
                _count_again(norms, islice(batches(), NORM_BATCHES), train)
            yield
        finally:
            self.evaluates = False
            self.optimizer.train()
            with torch.no_grad():
                torch._foreach_copy_(params, kept)
                for module, buffers in zip(norms, before, strict=True):
                    for name, value in buffers.items():
                        module.get_buffer(name).copy_(value)


def _counts(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.track_running_stats


@torch.no_grad()
def _count_again(norms: list[Any], batches: Iterable[Any], train: Callable[[Any], object]) -> None:
    """The statistics are the means over the batches, each with the same weight."""
    usual = [norm.momentum for norm in norms]
    device = norms[0].running_mean.device
    random = _random_states(device)
    for norm in norms:
        norm.reset_running_stats()
    for number, batch in enumerate(batches, start=1):
        for norm in norms:
            norm.momentum = 1.0 / number
        train(batch)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    torch.set_rng_state(random[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(random[1], device)


def _random_states(device: torch.device) -> list[Tensor]:
    """The global generators, which a model's dropout draws from."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]
