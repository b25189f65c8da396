"""Names to optimizers and schedules: baselines, families with a decay, the catalogue, any text.

A package of one's own adds to the choice by `register_optimizer` and `register_schedule`.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import ParamsT

from nos_repro.errors import ConfigError, RuleError, unknown
from nos_repro.optim import baselines, schedules
from nos_repro.optim.families import AddSign, PowerSign, agreement
from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.optim.schedules import Factor, Schedule
from nos_repro.rules.rule import Rule

if TYPE_CHECKING:
    from nos_repro.rules.catalog import Printed

OptimizerBuilder = Callable[..., Optimizer]
ScheduleBuilder = Callable[..., Factor]
F = TypeVar("F", bound=Callable[..., Any])

FAMILIES: dict[str, type[RuleOptimizer]] = {"powersign": PowerSign, "addsign": AddSign}

_OPTIMIZERS: dict[str, OptimizerBuilder] = {
    "sgd": baselines.sgd,
    "momentum": baselines.momentum,
    "adam": baselines.adam,
    "rmsprop": baselines.rmsprop,
    "rmsprop-tf": baselines.rmsprop_tf,
}
_SCHEDULES: dict[str, ScheduleBuilder] = {
    "constant": schedules.constant,
    "cosine": schedules.cosine,
    "cosine_restarts": schedules.cosine_restarts,
    "stepwise": schedules.stepwise,
    "linear_cosine": schedules.linear_cosine,
    "noisy_linear_cosine": schedules.noisy_linear_cosine,
}

_FAMILY = re.compile(r"(powersign|addsign)(?:-(.+))?")
_WORD = re.compile(r"[A-Za-z]\w*(-[\w.]+)*")


def register_optimizer(name: str) -> Callable[[F], F]:
    """Decorator of `make(params, *, lr, ...) -> Optimizer`.

    Its keywords are its options; weight_decay, total_steps and seed are handed over if it has them.
    """
    return _register(_OPTIMIZERS, "optimizer", name)


def register_schedule(name: str) -> Callable[[F], F]:
    """Decorator of `make(*, total_steps, seed, ...) -> factor(t)`; its keywords are its options."""
    return _register(_SCHEDULES, "schedule", name)


def optimizer_names() -> list[str]:
    """What `make_optimizer` takes beside rule text and the suffixes cd{n}, rd{n}."""
    families = [f"{name}{suffix}" for name in FAMILIES for suffix in ("", "-ld", "-cd", "-rd10")]
    return list(dict.fromkeys([*_OPTIMIZERS, *families, *_catalogue()]))


def schedule_names() -> list[str]:
    """What `make_schedule` takes."""
    return list(_SCHEDULES)


def make_optimizer(
    name: str,
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    total_steps: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Optimizer:
    """The optimizer of a name, a family with its decay, a catalogue name, or a rule's text.

    Names: `optimizer_names()`; `powersign-rd20`; `rule: TEXT`, or the text alone.
    Raises ConfigError (name, option, value) and RuleError (the rule's text, missing total_steps).
    """
    if not (isinstance(lr, int | float) and math.isfinite(lr) and lr > 0):
        raise ConfigError(f"lr must be a finite number > 0, got {lr!r}")
    make, accepted, fixed = _find_optimizer(name)
    _check_options(name, options, accepted - {"lr", *fixed})
    given = {"weight_decay": weight_decay, "total_steps": total_steps, "seed": seed}
    if weight_decay != 0 and "weight_decay" not in accepted:
        raise ConfigError(f"optimizer '{name}' takes no weight_decay, got {weight_decay}")
    handed = {key: value for key, value in given.items() if key in accepted}
    try:
        return make(params, lr=lr, **handed, **fixed, **options)
    except (TypeError, ValueError, LookupError) as error:
        raise ConfigError(f"optimizer '{name}': {error}") from error


def make_schedule(
    name: str, optimizer: Optimizer, *, total_steps: int, seed: int = 0, **options: Any
) -> LRScheduler:
    """The schedule of a name, to be stepped once after every update. Raises ConfigError."""
    if total_steps < 1:
        raise ConfigError(f"total_steps must be a positive integer, got {total_steps}")
    return Schedule(optimizer, _factor(name, total_steps, seed, options))


def check_optimizer(name: str, **options: Any) -> None:
    """Raises what `make_optimizer` would raise, before there are parameters."""
    settings = {"lr": 0.1, "total_steps": 1, **options}
    make_optimizer(name, [torch.nn.Parameter(torch.zeros(1))], **settings)


def check_schedule(name: str, **options: Any) -> None:
    """Raises what `make_schedule` would raise, before there is an optimizer."""
    _factor(name, 100, 0, options)(0)


def _find_optimizer(name: str) -> tuple[OptimizerBuilder, set[str], dict[str, Any]]:
    """What makes it, the options it takes, and those that the name has settled."""
    if name in _OPTIMIZERS:
        return _OPTIMIZERS[name], _keywords(_OPTIMIZERS[name]), {}
    options = _keywords(RuleOptimizer) - {"rule"}
    if family := _FAMILY.fullmatch(name):
        cls, decay = FAMILIES[family[1]], family[2]
        try:
            agreement(decay)
        except RuleError as error:
            if name in _catalogue():
                return RuleOptimizer, options, {"rule": _rule(name)}
            raise ConfigError(f"optimizer '{name}': {error}") from None
        accepted = (options | _keywords(cls)) - {"betas"}
        return cls, accepted, {} if decay is None else {"decay": decay}
    return RuleOptimizer, options, {"rule": _rule(name)}


def _rule(name: str) -> Rule:
    """The rule of a catalogue name or of a text; what can only be a name gets a ConfigError."""
    if name.startswith("rule:"):
        return Rule.parse(name.removeprefix("rule:").strip())
    if not _WORD.fullmatch(name):
        return Rule.parse(name)
    catalogue = _catalogue()
    if name in catalogue:
        return catalogue[name].rule
    try:
        return Rule.parse(name)
    except RuleError:
        raise ConfigError(
            unknown("optimizer", name, optimizer_names())
            + "\n  or the text of a rule, such as: rule: g * exp(sign(g) * sign(m))"
        ) from None


def _catalogue() -> "Mapping[str, Printed]":
    from nos_repro.rules.catalog import CATALOG

    return CATALOG


def _factor(name: str, total_steps: int, seed: int, options: dict[str, Any]) -> Factor:
    if name not in _SCHEDULES:
        raise ConfigError(unknown("schedule", name, _SCHEDULES))
    make = _SCHEDULES[name]
    _check_options(name, options, _keywords(make) - {"total_steps", "seed"})
    try:
        return make(total_steps=total_steps, seed=seed, **options)
    except (TypeError, ValueError, LookupError) as error:
        raise ConfigError(f"schedule '{name}': {error}") from error


def _check_options(name: str, options: dict[str, Any], accepted: set[str]) -> None:
    for option in options:
        if option not in accepted:
            choice = accepted - {"params", "total_steps", "seed"}
            raise ConfigError(unknown(f"option of {name}:", option, choice))


def _keywords(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"params", "self"}


def _register(table: dict[str, Any], what: str, name: str) -> Callable[[F], F]:
    def add(make: F) -> F:
        if name in table:
            raise ConfigError(f"there is an {what} '{name}' already")
        table[name] = make
        return make

    return add
