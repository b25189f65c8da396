"""A candidate's optimizer: found in its file or by its name, made for parameters."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer

MAKER = "make_optimizer"
"""The function of a file that makes its optimizer, if it has one of that name."""
MODULE = "candidate"

Maker = Callable[..., Any]


class ContractError(Exception):
    """A candidate that is not an optimizer as the evaluator calls it."""


def load_file(path: Path, name: str = "") -> Maker:
    """What makes the optimizer that a file defines: its function `make_optimizer`, or its only
    class of an optimizer; the class or function ``name`` if one is asked for.

    Raises ContractError, and whatever the file raises.
    """
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    if name:
        found = getattr(module, name, None)
        if not callable(found):
            raise ContractError(f"it defines no class or function '{name}'")
        return _checked(found)
    if callable(maker := getattr(module, MAKER, None)):
        return _checked(maker)
    classes = _classes(module)
    if len(classes) == 1:
        return _checked(classes[0])
    if not classes:
        raise ContractError(
            f"it defines neither a subclass of torch.optim.Optimizer nor {MAKER}(params, lr)"
        )
    names = " ".join(cls.__name__ for cls in classes)
    raise ContractError(
        f"it defines {len(classes)} optimizers ({names}); say which, as in"
        f" FILE.py:{classes[-1].__name__}, or define {MAKER}(params, lr)"
    )


def _classes(module: ModuleType) -> list[type]:
    """The optimizers that a module defines, but those that another one of it is made from."""
    own = [
        thing for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, Optimizer) and thing.__module__ == MODULE
    ]  # fmt: skip
    own = list(dict.fromkeys(own))
    return [cls for cls in own if not any(cls in other.__mro__[1:] for other in own)]


def _checked(maker: Maker) -> Maker:
    try:
        inspect.signature(maker).bind_partial([], lr=0.1)
    except (TypeError, ValueError) as error:
        what = getattr(maker, "__name__", str(maker))
        raise ContractError(f"{what} must take (params, lr=...): {error}") from None
    return maker


def load_name(name: str) -> Maker:
    """What makes the optimizer of a name or a rule's text, as the factory knows it."""
    from nos_repro.optim.factory import make_optimizer
    from nos_repro.optim.lookup import find_optimizer

    found = find_optimizer(name)
    options: dict[str, Any] = {"foreach": True} if found.rule_with({}) is not None else {}

    def make(
        params: Any, *, lr: float, total_steps: int | None = None, seed: int | None = None
    ) -> Any:
        return make_optimizer(name, params, lr=lr, total_steps=total_steps, seed=seed, **options)

    make.names_first = True  # type: ignore[attr-defined]
    return make


def make(
    maker: Maker,
    params: Sequence[tuple[str, Parameter]],
    *,
    lr: float,
    total_steps: int,
    seed: int,
) -> Optimizer:
    """The optimizer for these parameters; it gets the length of the training and a seed if it takes
    them, and the parameters' names if its first argument is called `named_parameters`.

    Raises ContractError, and whatever the candidate raises.
    """
    taken = inspect.signature(maker).parameters
    given: dict[str, Any] = {"total_steps": total_steps, "seed": seed}
    given = {key: value for key, value in given.items() if key in taken}
    named = "named_parameters" in taken or getattr(maker, "names_first", False)
    made = maker(list(params) if named else [p for _, p in params], lr=lr, **given)
    if not isinstance(made, Optimizer):
        raise ContractError(f"it makes a {type(made).__name__}, not a torch.optim.Optimizer")
    check_parameters(made, params)
    needed = [
        name for name, taken in inspect.signature(made.step).parameters.items()
        if taken.default is taken.empty
        and taken.kind in (taken.POSITIONAL_ONLY, taken.POSITIONAL_OR_KEYWORD, taken.KEYWORD_ONLY)
    ]  # fmt: skip
    if needed:
        raise ContractError(f"its step needs {needed[0]}; it is called as step()")
    return made


def check_parameters(made: Optimizer, params: Sequence[tuple[str, Parameter]]) -> None:
    """Raises ContractError unless the optimizer's groups hold exactly these parameters."""
    held = [id(p) for group in made.param_groups for p in group["params"]]
    if sorted(held) != sorted(id(p) for _, p in params):
        raise ContractError("its param_groups do not hold exactly the parameters that it was given")
