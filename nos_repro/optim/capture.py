"""`capturable=True`: step counts and rates as tensors on the device, for CUDA graphs.

A graph replays what the device did and runs no Python: what changes from step to step must be read
and written there. The parameters of a group that have seen the same updates share one count, so
that one call still updates them all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nos_repro.errors import ConfigError


def is_capturing() -> bool:
    """Whether what is done now goes into a CUDA graph."""
    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(begun and torch.cuda.is_current_stream_capturing())


def check_capture(optimizer: torch.optim.Optimizer) -> None:
    """Raises ConfigError if a graph of this update would not do at each replay what a step does."""
    for group in optimizer.param_groups:
        if not group["capturable"]:
            raise ConfigError(
                "an update without capturable=True cannot be captured in a CUDA graph: its rate,"
                " decays, bias corrections and draws would stay those of this step\n"
                "  make the optimizer with capturable=True, or call step() outside the graph"
            )
        for p in group["params"]:
            if p.grad is not None and "step" not in optimizer.state[p]:
                raise ConfigError(
                    "this update would make its state in a CUDA graph, and begin anew at each"
                    " replay\n  take a step before the capture, as torch.cuda.graph advises"
                )


def put_on_device(group: dict[str, Any]) -> None:
    """Makes the rate, and the number of steps if there is one, tensors where the parameters are."""
    if not group["params"]:
        return
    device = group["params"][0].device
    kinds = {"lr": torch.float64, "t": torch.int64}
    for name, dtype in kinds.items():
        value = group.get(name)
        if isinstance(value, Tensor):
            if value.device != device:
                group[name] = value.to(device)
        elif value is not None:
            group[name] = torch.tensor(value, dtype=dtype, device=device)


def load_numbers(group: dict[str, Any], states: list[dict[str, Any]], own: dict[str, Any]) -> None:
    """Makes the numbers of a loaded group, and of its parameters' states, what the group's own
    options say. `own` are those before: a rate that was a tensor there stays, and is filled."""
    for holder, name in [(group, "t"), *((state, "step") for state in states)]:
        value = holder.get(name)
        if isinstance(value, Tensor) and not value.is_meta:
            holder[name] = int(value)  # of which the next step makes one tensor for all
    loaded, rate = group["lr"], own["lr"]
    if own["capturable"]:
        if isinstance(rate, Tensor):
            group["lr"] = rate.copy_(loaded) if isinstance(loaded, Tensor) else rate.fill_(loaded)
        put_on_device(group)
    elif group["capturable"] and not isinstance(rate, Tensor) and not loaded.is_meta:
        group["lr"] = float(loaded)


class UpdateCounts:
    """Counts the updates of a group's parameters, in tensors which those share that have seen
    equally many."""

    def __init__(self) -> None:
        self._new: dict[int, Tensor] = {}
        self._updated: dict[int, tuple[Tensor, list[dict[str, Any]]]] = {}

    def add(self, state: dict[str, Any], device: torch.device) -> int:
        """Notes that a parameter is updated; returns what tells its count from others."""
        count = state["step"]
        if not isinstance(count, Tensor) or count.device != device:
            known = self._new.get(int(count))
            if known is None:
                known = torch.tensor(float(count), dtype=torch.float32, device=device)
                self._new[int(count)] = known
            count = state["step"] = known
        self._updated.setdefault(id(count), (count, []))[1].append(state)
        return id(count)

    def advance(self, others: list[dict[str, Any]]) -> dict[int, Tensor]:
        """Adds one to each count; `others` are states of parameters that are not updated. Returns
        the new counts by what `add` returned."""
        kept = {id(state.get("step")) for state in others}
        advanced = {}
        for key, (count, states) in self._updated.items():
            if key in kept:
                count = count + 1
                for state in states:
                    state["step"] = count
            else:
                count.add_(1)
            advanced[key] = count
        return advanced
