"""Counts what makes the host wait for a device in a piece of work, such as a training step.

No device is needed: on torch's `meta` device, where tensors have a shape and no values, the same
calls are made as on CUDA. Two things make the host wait there: a value that Python, or the shape of
a result, depends on; and a copy that is not declared `non_blocking`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
# fmt: off
READ = {
    # a value, or the shape of the result, is read by the host
    aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten._unique2,
    aten.unique_dim, aten.unique_consecutive, aten.bincount, aten.repeat_interleave,
}
ANSWERED = {aten._local_scalar_dense, aten.equal}  # by a number, of which `meta` knows none
COPIED = {aten._to_copy, aten.copy_}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
MADE = {torch.tensor, torch.as_tensor, torch.asarray}
# fmt: on


@dataclass
class Waits:
    """What was counted: calls by their names.

    ``synchronisations``: the host reads a value. ``copies``: it waits for a copy to the device or
    from it. ``operations`` are those that compute, each about one kernel.
    """

    synchronisations: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    operations: int = 0

    def __str__(self) -> str:
        found = self.synchronisations + self.copies
        return ", ".join(f"{count} {name}" for name, count in found.items()) or "no waits"


@contextmanager
def counted(device: torch.device | str) -> Iterator[Waits]:
    """Counts in the block what would make the host wait for ``device``, if that were an
    accelerator. On `meta`, every number that is read is 1."""
    waits = Waits()
    watched = torch.device(device)
    with _Functions(waits, watched), _Operations(waits, watched), _autocast_on(watched):
        yield waits


@contextmanager
def _autocast_on(device: torch.device) -> Iterator[None]:
    """Autocast refuses the meta device: there it is the CPU's, which changes nothing on `meta`, but
    answers who asks whether it is on."""
    if device.type != "meta":
        yield
        return
    with ExitStack() as stack:
        for name in ("autocast", "is_autocast_enabled", "get_autocast_dtype"):
            stack.enter_context(mock.patch.object(torch, name, _of_cpu(getattr(torch, name))))
        yield


def _of_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(kind: str, *given: Any, **named: Any) -> Any:
        return function("cpu" if kind == "meta" else kind, *given, **named)

    return call


class _Functions(TorchFunctionMode):
    """Counts tensors that are made from Python's numbers on the device: a copy, and a wait."""

    def __init__(self, waits: Waits, device: torch.device) -> None:
        super().__init__()
        self.waits, self.device = waits, device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in MADE and not (args and self._is_mine(getattr(args[0], "device", None))):
            self.waits.copies[func.__name__] += self._is_mine(given.get("device"))
        return func(*args, **given)

    def _is_mine(self, device: Any) -> bool:
        return device is not None and torch.device(device).type == self.device.type


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that reach the device, and those among them that wait."""

    def __init__(self, waits: Waits, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits, self.device = waits, device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        packet, name = func.overloadpacket, str(func.overloadpacket).removeprefix("aten.")
        inputs = [x for x in tree_leaves((args, given)) if isinstance(x, Tensor)]
        if packet in READ and any(map(self._is_watched, inputs)):
            self.waits.synchronisations[name] += 1
            if packet in ANSWERED and self.device.type == "meta":
                return 1
        elif packet in INDEXED and self._is_mask(args[1]):
            self.waits.synchronisations[f"{name} with a mask"] += 1
        out = func(*args, **given)
        self._look_for_copies(packet, name, args, given, inputs, out)
        if not func.is_view and any(map(self._is_watched, tree_leaves(out))):
            self.waits.operations += 1
        return out

    def _look_for_copies(
        self, packet: Any, name: str, args: Any, given: Any, inputs: list[Tensor], out: Any
    ) -> None:
        if packet in COPIED:
            source = args[1] if packet is aten.copy_ else args[0]
            crosses = self._is_watched(source) != self._is_watched(out)
            asynchronous = given.get("non_blocking", False) or (packet is aten.copy_ and args[2:])
            if crosses and not asynchronous:
                self.waits.copies[name] += 1
        elif packet is aten.where and self._is_watched(out):
            # other operations take a number of the host along, `where` copies it first
            self.waits.copies[name] += sum(not self._is_watched(x) for x in inputs)

    def _is_watched(self, x: Any) -> bool:
        return isinstance(x, Tensor) and x.device.type == self.device.type

    def _is_mask(self, indices: Any) -> bool:
        masks = (torch.bool, torch.uint8)
        return any(self._is_watched(i) and i.dtype in masks for i in tree_leaves(indices))
