"""The numbers of one update that a kernel reads: scalars and the keys of its draws.

They go to the device in one copy, from pinned memory, which nothing waits for. Where the step is
a tensor there (`capturable`), they are made there.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from nos_repro.optim.batch import Step, arithmetic_dtype
from nos_repro.optim.device_keys import keys_at
from nos_repro.optim.draws import make_key
from nos_repro.optim.kernel import KernelKind, scalar_names
from nos_repro.optim.program import run_once


class Numbers:
    """The numbers of a step for a kind of kernel."""

    def __init__(self, kind: KernelKind, step: Step) -> None:
        self._kind, self._step = kind, step
        self._sites = kind.program.sites

    def on_device(self, tensors: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The scalars in the order of `scalar_names`, rounded as an eager operation rounds them,
        and the keys [tensor, site, 2] of these tensors' draws."""
        device, dtype = self._kind.device, arithmetic_dtype(self._kind.dtype)
        scalars = self._scalars()
        if isinstance(self._step.t, Tensor):
            made = [x if isinstance(x, Tensor) else constant(x, device) for x in scalars]
            keys = self._step.t.new_empty(0, 0, 2)
            if self._sites:
                keys = keys_at(self._step.seed, self._step.t, tuple(tensors), self._sites)
            return torch.stack([x.to(torch.float64) for x in made]).to(dtype), keys
        numbers = [0.0 if isinstance(x, Tensor) else x for x in scalars]
        sites = range(self._sites)
        words = [
            x for n in tensors for k in sites for x in make_key(self._step.seed, self._step.t, n, k)
        ]
        there, keys = _sent(numbers, words, device)
        there = there.to(dtype)
        for i, x in enumerate(scalars):
            if isinstance(x, Tensor):
                there[i] = x
        return there, keys.view(len(tensors), self._sites, 2)

    def _scalars(self) -> list[float | Tensor]:
        kind, step = self._kind, self._step
        lr = step.lr
        if isinstance(lr, Tensor) and lr.device.type == "cpu" and kind.device.type != "cpu":
            lr = float(lr)
        values: dict[str, float | Tensor] = {
            **run_once(kind.program, step.inputs, arithmetic_dtype(kind.dtype)),
            "lr": lr,
            "l2": step.weight_decay,
            "shrink": 1 - lr * step.weight_decay,
        }
        for name in kind.program.averages:
            values |= {f"beta_{name}": step.beta(name), f"rest_{name}": 1 - step.beta(name)}
        return [values[name] for name in scalar_names(kind)]


def _sent(scalars: list[float], words: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The scalars in double precision and the whole numbers, on the device: one copy."""
    floats, numbers = (
        torch.tensor(scalars, dtype=torch.float64),
        torch.tensor(words, dtype=torch.int64),
    )
    if device.type == "cpu":
        return floats, numbers
    both = torch.cat([floats.view(torch.int64), numbers])
    if device.type == "cuda":
        both = both.pin_memory()
    there = both.to(device, non_blocking=True)
    return there[: len(scalars)].view(torch.float64), there[len(scalars) :]


def constant(x: float, device: torch.device) -> Tensor:
    """A number as a tensor of double precision, which is made once."""
    return _constant(float(x).hex(), device)


@cache
def _constant(x: str, device: torch.device) -> Tensor:
    return torch.tensor(float.fromhex(x), dtype=torch.float64, device=device)
