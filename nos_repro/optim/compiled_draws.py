"""The draws of a compiled kernel: to the compiler, one function of an element each.

Seen operation by operation, the rounds of Philox use every value twice. The compiler then cuts a
draw into loops that pass 16 bytes per element through memory, or takes minutes over repeating what
is used twice. So a draw is an operator of its own. What inductor writes for it is `draws.keep` and
`draws.normal` as they are, run on one element.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from nos_repro.optim import draws

# the compiler's default cuts a function of more than 30 operations off from those that read it
ONE_LOOP = {"realize_opcount_threshold": 1000}


@cache
def compiled_draws() -> SimpleNamespace:
    """`keep` and `normal` of (places, low, high, option) as operators that inductor knows."""

    def keep(places: Tensor, low: Tensor, high: Tensor, probability: float) -> Tensor:
        return draws.keep(places, (low, high), probability)

    def normal(places: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype) -> Tensor:
        return draws.normal(places, (low, high), dtype)

    return SimpleNamespace(
        keep=_operator(keep, lambda _: torch.bool), normal=_operator(normal, lambda dtype: dtype)
    )


def _operator(
    draw: Callable[..., Any], dtype_of: Callable[[Any], torch.dtype]
) -> Callable[..., Tensor]:
    """The operator and what it does to an element."""
    from torch._inductor.ir import Pointwise
    from torch._inductor.lowering import register_lowering

    # inductor keeps kernels on disk under the names of their operators
    version = blake2b(inspect.getsource(draws).encode(), digest_size=4).hexdigest()
    made = torch.library.custom_op(f"nos_repro::{draw.__name__}_{version}", draw, mutates_args=())

    def empty(places: Tensor, low: Tensor, high: Tensor, option: Any) -> Tensor:
        return places.new_empty(places.shape, dtype=dtype_of(option))

    def lower(places: Any, low: Any, high: Any, option: Any) -> Any:
        load, load_low, load_high = (x.make_loader() for x in (places, low, high))

        def value(index: Any) -> Any:
            row = [index[0], 0] if low.get_size() else []  # a key per row, or one
            values = load(index), load_low(row), load_high(row)
            return draw(*(_Element(x, torch.int64) for x in values), option).value

        return Pointwise.create(
            device=places.get_device(),
            dtype=dtype_of(option),
            inner_fn=value,
            ranges=list(places.get_size()),
        )

    made.register_fake(empty)
    register_lowering(made._opoverload, type_promotion_kind=None)(lower)
    return made


class _Element:
    """An element of a tensor in a loop that inductor writes: as much as the draws need of it."""

    def __init__(self, value: Any, dtype: torch.dtype) -> None:
        self.value, self.dtype = value, dtype

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], _: Any, arguments: Any = (), __: Any = None
    ) -> _Element:
        return _apply(function.__name__, *arguments)

    def to(self, dtype: torch.dtype) -> _Element:
        return _Element(_ops().to_dtype(self.value, dtype, src_dtype=self.dtype), dtype)

    def __add__(self, other: Any) -> _Element:
        return _apply("add", self, other)

    def __sub__(self, other: Any) -> _Element:
        return _apply("sub", self, other)

    def __mul__(self, other: Any) -> _Element:
        return _apply("mul", self, other)

    __rmul__ = __mul__

    def __and__(self, other: Any) -> _Element:
        return _apply("bitwise_and", self, other)

    def __xor__(self, other: Any) -> _Element:
        return _apply("bitwise_xor", self, other)

    def __rshift__(self, other: Any) -> _Element:
        return _apply("bitwise_right_shift", self, other)


def _apply(name: str, *arguments: Any) -> _Element:
    (dtype, *_) = (x.dtype for x in arguments if isinstance(x, _Element))
    ops = _ops()
    values = [x.value if isinstance(x, _Element) else ops.constant(x, dtype) for x in arguments]
    return _Element(getattr(ops, name)(*values), torch.bool if name == "ge" else dtype)


def _ops() -> Any:
    from torch._inductor.virtualized import ops

    return ops
