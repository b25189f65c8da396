"""Checks of an optimizer's options: what is impossible is refused, NumPy's numbers become Python's.

A saved state then holds plain numbers, which `torch.load(..., weights_only=True)` reads.
"""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from nos_repro.errors import ConfigError

REFUSED = {
    "differentiable": "use torch.optim.SGD or torch.optim.Adam to differentiate through an update",
}


def check_common(options: dict[str, Any]) -> None:
    """Checks the options that every optimizer of a rule has."""
    check_refused(options)
    options["lr"] = checked_rate(options["lr"])
    options["weight_decay"] = nonnegative("weight_decay", options["weight_decay"])
    if options["total_steps"] is not None:
        options["total_steps"] = whole("total_steps", options["total_steps"], least=1)
    check_flags(options, "decoupled_weight_decay", "foreach", "fused", "maximize", "master_weights")
    check_flags(options, "capturable")
    if options["foreach"] and options["fused"]:
        raise ConfigError("foreach and fused exclude each other: give one of them")


def check_refused(options: Mapping[str, Any]) -> None:
    """Refuses what torch's own optimizers can do and an update rule cannot."""
    for name, instead in REFUSED.items():
        if options.get(name):
            raise ConfigError(f"{name}=True is not possible for an update rule\n  {instead}")


def checked_rate(lr: Any) -> float | Tensor:
    """A learning rate: a number >= 0, or a tensor of one such element."""
    if not isinstance(lr, Tensor):
        return nonnegative("lr", lr)
    if lr.numel() != 1:
        raise ConfigError(f"lr must be a number or a tensor of one element, got {lr.numel()}")
    if not lr.is_meta:
        nonnegative("lr", lr.item())
    return lr


def nonnegative(name: str, value: Any) -> float:
    """A finite number >= 0."""
    if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
        raise ConfigError(f"{name} must be a finite number >= 0, got {value!r}")
    return _plain(value)


def number(name: str, value: Any) -> float:
    """A finite number."""
    if not (isinstance(value, Real) and math.isfinite(value)):
        raise ConfigError(f"{name} must be a finite number, got {value!r}")
    return _plain(value)


def fraction(name: str, value: Any) -> float:
    """A number in [0, 1)."""
    if not (isinstance(value, Real) and 0 <= float(value) < 1):
        raise ConfigError(f"{name} must be a number in [0, 1), got {value!r}")
    return _plain(value)


def fractions(name: str, values: Any, count: int) -> tuple[float, ...]:
    """Numbers in [0, 1), as many as asked for."""
    words = {2: "two", 3: "three"}
    listed = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else []
    if len(listed) != count:
        raise ConfigError(f"{name} must be {words[count]} numbers in [0, 1), got {values!r}")
    return tuple(fraction(f"{name}[{i}]", value) for i, value in enumerate(listed))


def whole(name: str, value: Any, least: float = -math.inf) -> int:
    """A whole number, not smaller than `least`."""
    if type(value) is bool or not isinstance(value, Integral) or int(value) < least:
        kind = "whole number" if least == -math.inf else f"whole number >= {least}"
        raise ConfigError(f"{name} must be a {kind}, got {value!r}")
    return int(value)


def check_flags(options: Mapping[str, Any], *names: str) -> None:
    """Each of these is True or False, or None where its default is None."""
    for name in names:
        if not (options[name] is None or isinstance(options[name], bool)):
            raise ConfigError(f"{name} must be True or False, got {options[name]!r}")


def check_dense_and_real(p: Tensor, what: str = "a rule") -> None:
    """Refuses a parameter that is sparse, complex or not of floating-point numbers."""
    if p.layout != torch.strided:
        raise ConfigError(f"{what} needs dense parameters, got one of layout {p.layout}")
    if not p.is_floating_point():
        raise ConfigError(
            f"{what} needs real floating-point parameters, got one of {p.dtype}\n"
            "  a complex parameter can be given as torch.view_as_real(parameter)"
        )


def _plain(value: Any) -> float:
    return value if type(value) in (int, float) else float(value)
