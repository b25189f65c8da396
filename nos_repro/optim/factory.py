"""Names to optimizers and schedules: baselines, families with a decay, the catalogue, any text.

Your own package adds to the choice: see `nos_repro.optim.registry`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import ParamsT

from nos_repro.errors import ConfigError, NosError, RuleError, unknown
from nos_repro.optim.families import AddSign, PowerSign, of_family
from nos_repro.optim.registry import (
    OPTIMIZERS,
    SCHEDULES,
    Factor,
    OptimizerBuilder,
    keywords,
    wants_names,
)
from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.optim.schedules import Schedule
from nos_repro.registry import is_path
from nos_repro.rules.families import DECAYS, FAMILIES, find_family, is_decay
from nos_repro.rules.rule import Rule

if TYPE_CHECKING:
    from nos_repro.rules.catalog import Printed

FAMILY_CLASSES: dict[str, type[RuleOptimizer]] = {"powersign": PowerSign, "addsign": AddSign}

_WORD = re.compile(r"[A-Za-z]\w*(-[\w.]+)*")


def optimizer_names() -> list[str]:
    """What `make_optimizer` takes beside rule text and the suffixes cd{n}, rd{n}."""
    families = [f"{name}{suffix}" for name in FAMILIES for suffix in ("", "-ld", "-cd", "-rd10")]
    return list(dict.fromkeys([*OPTIMIZERS.names(), *families, *_catalogue()]))


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

    Names: `optimizer_names()`; `powersign-rd20`; `rule: TEXT`, or the text alone; your own
    `my_package.my_module`, or a class or function in a module, `torch.optim.AdamW`.
    ``params`` are parameters, (name, parameter) pairs or groups of either; only an optimizer that
    asks for names is handed them.
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
        handed_params = list(_pairs(params, name)) if wants_names(make) else _unnamed(params)
        return make(handed_params, lr=lr, **handed, **fixed, **options)
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
    """Raises what `make_optimizer` would raise, before there are parameters.

    An optimizer is tried on a matrix and a vector, and on the matrix alone where it refuses both:
    some take only matrices, and whether a task has others is seen when the task is built.
    """
    settings = {"lr": 0.1, "total_steps": 1, **options}
    matrix, vector = (torch.nn.Parameter(torch.zeros(size)) for size in ((2, 2), (2,)))
    try:
        make_optimizer(name, [("weight", matrix), ("bias", vector)], **settings)
    except ConfigError:
        try:
            make_optimizer(name, [("weight", matrix)], **settings)
            return
        except NosError:
            pass
        raise


def check_schedule(name: str, **options: Any) -> None:
    """Raises what `make_schedule` would raise, before there is an optimizer."""
    _factor(name, 100, 0, options)(0)


def _find_optimizer(name: str) -> tuple[OptimizerBuilder, set[str], dict[str, Any]]:
    """What makes it, the options it takes, and those that the name has settled."""
    if is_path(name) or name in OPTIMIZERS:
        make = OPTIMIZERS.find(name)
        return make, keywords(make), {}
    options = keywords(RuleOptimizer) - {"rule"}
    if found := find_family(name):
        family, decay = found
        fixed = {} if decay is None else {"decay": decay}
        if decay is not None and not is_decay(decay):
            if name in _catalogue():
                return RuleOptimizer, options, {"rule": _rule(name)}
            raise ConfigError(f"optimizer '{name}': {unknown('decay', decay, DECAYS)}")
        if family.name in FAMILY_CLASSES:
            cls = FAMILY_CLASSES[family.name]
            return cls, keywords(cls), fixed
        constants = {constant.name for constant in family.constants}
        return partial(of_family, family), options | constants | {"decay"}, fixed
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
    make = SCHEDULES.find(name)
    accepted = keywords(make)
    given = {"total_steps": total_steps, "seed": seed}
    _check_options(name, options, accepted - given.keys())
    handed = {key: value for key, value in given.items() if key in accepted}
    try:
        return make(**handed, **options)
    except (TypeError, ValueError, LookupError) as error:
        raise ConfigError(f"schedule '{name}': {error}") from error


def _check_options(name: str, options: dict[str, Any], accepted: set[str]) -> None:
    for option in options:
        if option not in accepted:
            choice = accepted - {"params", "total_steps", "seed"}
            raise ConfigError(unknown(f"option of {name}:", option, choice))


def _pairs(params: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The (name, parameter) pairs among ``params``, in groups or not."""
    for item in params:
        match item:
            case (str(), Tensor()):
                yield item
            case {"params": members}:
                yield from _pairs([members] if isinstance(members, Tensor) else members, name)
            case _:
                raise ConfigError(f"optimizer '{name}' needs the names of the parameters, as in"
                                  " model.named_parameters()")  # fmt: skip


def _unnamed(params: Any) -> Any:
    """The parameters or groups, without names."""
    if isinstance(params, Tensor):
        return params  # torch says what is wrong with that

    def plain(item: Any) -> Any:
        match item:
            case (str(), Tensor() as parameter):
                return parameter
            case {"params": members}:
                members = members if isinstance(members, Tensor) else _unnamed(members)
                return {**item, "params": members}
            case _:
                return item

    return [plain(item) for item in params]
