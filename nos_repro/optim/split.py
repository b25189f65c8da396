"""Several optimizers as one: each has its own parameters of a model (`grouping`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.optimizer import StateDict

from nos_repro.errors import ConfigError
from nos_repro.optim.factory import make_optimizer
from nos_repro.optim.grouping import Assigned, NamedShape, Part, assigned, groups_of, parts_of
from nos_repro.optim.kinds import kind_of
from nos_repro.optim.lookup import find_optimizer
from nos_repro.optim.modes import has_modes
from nos_repro.optim.registry import wants_names
from nos_repro.optim.sharding import number_of, number_parameters

Member = tuple[str, Tensor, dict[str, Any]]
"""A parameter's name, the parameter, and the options that the task gives it."""


def split(
    named_parameters: Iterable[Any],
    *,
    lr: float,
    split: Any,
    weight_decay: float = 0.0,
    groups: Any = None,
    **given: Any,
) -> Optimizer:
    """The optimizer of a setting `split`, or of one optimizer with `groups`.

    ``given``: `total_steps` and `seed`. Raises ConfigError if the settings do not fit the model,
    and what an optimizer's maker raises.
    """
    members = list(_members(named_parameters, {}))
    named = [NamedShape(name, kind_of(p), tuple(p.shape)) for name, p, _ in members]
    parts = parts_of(split)
    found = assigned(parts, groups_of(groups), named)
    if len(parts) > 1:
        number_parameters(p for _, p, _ in members)
    made = []
    for part in parts:
        own = [g for each in found if each.part is part for g in _groups(each, members, lr)]
        options = {"lr": lr, "weight_decay": weight_decay, **given, **part.options}
        try:
            made.append(_made(part, own, options))
        except ConfigError as error:
            where = f"split.{part.label}: " if len(parts) > 1 else ""
            raise type(error)(f"{where}{error}") from None
    return made[0] if len(made) == 1 else SplitOptimizer(made)


def _members(params: Iterable[Any], own: dict[str, Any]) -> Iterator[Member]:
    for item in params:
        match item:
            case (str() as name, Tensor() as p):
                if p.requires_grad:
                    yield name, p, own
            case {"params": below}:
                rest = {key: value for key, value in item.items() if key != "params"}
                yield from _members(below, {**own, **rest})
            case _:
                raise ConfigError(
                    "split and groups need the names of the parameters, as in"
                    " model.named_parameters()"
                )


def _groups(group: Assigned, members: list[Member], lr: float) -> list[dict[str, Any]]:
    """The group as torch's optimizers take it; several if the task gives some other options."""
    ours: dict[str, Any] = {} if group.rate == 1 else {"lr": lr * group.rate}
    if not group.decays:
        ours["weight_decay"] = 0.0
    made: dict[str, dict[str, Any]] = {}
    for number in group.members:
        name, p, own = members[number]
        key = repr(sorted(own.items()))
        made.setdefault(key, {"params": [], **own, **ours})["params"].append((name, p))
    return list(made.values())


def _made(part: Part, groups: list[dict[str, Any]], options: dict[str, Any]) -> Optimizer:
    special = {key for group in groups for key in group if key != "params"}
    if special and wants_names(find_optimizer(part.name).make):
        raise ConfigError(f"optimizer '{part.name}' makes its own groups; leave out `groups`")

    def make(params: Any) -> Optimizer:
        made = make_optimizer(part.name, params, **options)
        for key in special:
            if key not in made.defaults and (key != "weight_decay" or options[key]):
                raise ConfigError(f"optimizer '{part.name}' has no {key} that a group could change")
        return made

    return FlatOptimizer(groups, make) if part.flatten else make(groups)


class SplitOptimizer(Optimizer):
    """Steps several optimizers of different parameters. Its groups are theirs, so that a schedule
    fills all rates, each relative to its own initial one."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts: list[Optimizer] = []
        super().__init__([p for part in parts for p in _params(part)], {})
        self.parts = parts
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, in which parameters lose the numbers that rules draw with."""
        numbers = [number_of(p, place) for place, p in enumerate(_params(self))]
        return {**super().__getstate__(), "parts": self.parts, "numbers": numbers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        numbers = state["numbers"]
        super().__setstate__({key: value for key, value in state.items() if key != "numbers"})
        self._share()
        ordered = sorted(zip(numbers, _params(self), strict=True), key=lambda pair: pair[0])
        number_parameters(p for _, p in ordered)

    def _share(self) -> None:
        if any(map(has_modes, self.parts)):
            self.train, self.eval = self._train, self._eval
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state.clear()
        for part in self.parts:
            self.state.update(part.state)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raises ConfigError once the optimizer is made: nobody says whose the parameters are."""
        if self.parts:
            raise ConfigError("a split optimizer takes its parameters when it is made, not later")
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """An update of every part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        for part in self.parts:
            self.state.update(part.state)
        return loss

    def _train(self) -> None:
        for part in filter(has_modes, self.parts):
            part.train()

    def _eval(self) -> None:
        for part in filter(has_modes, self.parts):
            part.eval()

    def state_dict(self) -> StateDict:
        """The states of the parts, in their order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Raises ConfigError for the state of one optimizer, ValueError for that of another number
        of parts."""
        if "parts" not in state_dict:
            raise ConfigError("this state belongs to one optimizer, not to several in a split")
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()


class FlatOptimizer(Optimizer):
    """An optimizer of matrices for kernels: it updates each as a matrix with a row per output."""

    def __init__(
        self, groups: list[dict[str, Any]], make: Callable[[list[dict[str, Any]]], Optimizer]
    ) -> None:
        params = [[p for _, p in group["params"]] for group in groups]
        if any(p.ndim < 2 for own in params for p in own):
            raise ConfigError("flatten: true is for kernels, and a vector has no columns")
        self.pairs = [(p, Parameter(p.detach().flatten(1))) for own in params for p in own]
        flat = iter([q for _, q in self.pairs])
        self.inner = make([{**group, "params": [next(flat) for _ in own]}
                           for group, own in zip(groups, params, strict=True)])  # fmt: skip
        if has_modes(self.inner):
            raise ConfigError(f"{type(self.inner).__name__} cannot be combined with flatten: true")
        super().__init__([{"params": own} for own in params], self.inner.defaults)
        self._mirror()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "pairs": self.pairs, "inner": self.inner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._mirror()

    def _mirror(self) -> None:
        self.state = self.inner.state
        for group, inner in zip(self.param_groups, self.inner.param_groups, strict=True):
            group.update({key: value for key, value in inner.items() if key != "params"})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """An update of the kernels, as matrices."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._pass_on()
        for p, q in self.pairs:
            q.data = p.detach().flatten(1)
            q.grad = None if p.grad is None else p.grad.flatten(1)
        self.inner.step()
        for p, q in self.pairs:
            q.grad = None
            if q.data_ptr() != p.data_ptr():  # its memory has another order, as with channels_last
                p.copy_(q.reshape(p.shape))
        self._mirror()
        return loss

    def state_dict(self) -> StateDict:
        """The state of the optimizer of the matrices."""
        self._pass_on()
        return self.inner.state_dict()

    def _pass_on(self) -> None:
        for group, inner in zip(self.param_groups, self.inner.param_groups, strict=True):
            inner.update({key: value for key, value in group.items() if key != "params"})

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Loads the state of an optimizer of the matrices."""
        self.inner.load_state_dict(state_dict)
        self._mirror()


def _params(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
