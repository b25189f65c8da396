"""The optimizers and schedules by name, and the arguments that each of them must take.

Your own is a function in a module of yours, and a study refers to it by that module's name:

    from nos_repro.optim import OPTIMIZERS, SCHEDULES

    @OPTIMIZERS.register("lion")
    def lion(params, *, lr, weight_decay=0.0, betas=(0.9, 0.99)): ...

    @SCHEDULES.register("warmup")
    def warmup(*, total_steps, steps=100): ...
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nos_repro.errors import ConfigError
from nos_repro.registry import Registry, require_call

if TYPE_CHECKING:
    from torch.optim import Optimizer

OptimizerBuilder: TypeAlias = "Callable[..., Optimizer]"
"""`make(params, *, lr, ...)`; its keywords are its options. It gets ``weight_decay``,
``total_steps`` and ``seed`` if it takes them. If its first parameter is called ``named_parameters``
it gets (name, parameter) pairs and makes its own groups."""

Factor: TypeAlias = Callable[[int], float]
"""The factor by which a schedule multiplies the initial rate at step t; the first update has 0."""

ScheduleBuilder: TypeAlias = Callable[..., Factor]
"""`make(*, total_steps, seed, ...)`; its keywords are its options; these two may be left out."""


PARAMETERS = {"params", "named_parameters", "self"}
"""Arguments that are no options."""


def keywords(function: Callable[..., Any]) -> set[str]:
    """The names of a maker's arguments, except the parameters to optimize."""
    parameters = inspect.signature(function).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return named - PARAMETERS


@functools.cache
def written_keywords(origin: str) -> frozenset[str]:
    """The same for `module:maker` of this package, read in its source: nothing is imported."""
    module, _, name = origin.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None, module
    tree = ast.parse(Path(spec.origin).read_bytes())
    (maker,) = (node for node in tree.body if getattr(node, "name", "") == name)
    if isinstance(maker, ast.ClassDef):
        (maker,) = (node for node in maker.body if getattr(node, "name", "") == "__init__")
    assert isinstance(maker, ast.FunctionDef), origin
    arguments = maker.args
    named = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    return frozenset(named - PARAMETERS)


def wants_names(make: OptimizerBuilder) -> bool:
    """Whether the maker asks for (name, parameter) pairs."""
    return "named_parameters" in inspect.signature(make).parameters


def _is_optimizer(thing: object) -> bool:
    from torch.optim import Optimizer

    return isinstance(thing, type) and issubclass(thing, Optimizer)


def _check_optimizer(name: str, make: OptimizerBuilder) -> None:
    if isinstance(make, type) and not _is_optimizer(make):
        raise ConfigError(f"optimizer: {name} is a class, but not a torch.optim.Optimizer")
    require_call(f"optimizer {name}", make, "(params, *, lr, ...)", None, lr=0.1)


def _check_schedule(name: str, make: ScheduleBuilder) -> None:
    require_call(f"schedule {name}", make, "(*, total_steps, seed, ...)")


OPTIMIZERS: Registry[OptimizerBuilder] = Registry(
    "optimizer", "nos_repro.optim.baselines", check=_check_optimizer, recognise=_is_optimizer
)
"""The decorator of one may say what it ``keeps`` by default: values per parameter."""
SCHEDULES: Registry[ScheduleBuilder] = Registry(
    "schedule", "nos_repro.optim.schedules", check=_check_schedule
)
