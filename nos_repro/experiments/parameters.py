"""The parameters of a study's model, as an optimizer's settings see them, before any training."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import torch

from nos_repro.errors import ConfigError, NosError
from nos_repro.experiments.matrices import of_matrices
from nos_repro.experiments.trial import make_settings
from nos_repro.optim.factory import try_optimizer
from nos_repro.optim.grouping import (
    Assigned,
    NamedShape,
    Part,
    assigned,
    groups_of,
    parts_of,
)
from nos_repro.optim.kinds import kind_of, mark_kinds
from nos_repro.optim.lookup import alone, find_optimizer
from nos_repro.optim.registry import wants_names
from nos_repro.rules.states import nodes
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import Task

Group = tuple[Assigned, list[NamedShape]]
"""A parameter group, and the parameters in it."""


def row_groups(task: Mapping[str, Any], optimizer: str, options: Mapping[str, Any]) -> list[Group]:
    """The parameter groups of a row's optimizers; ``task`` is a study's section. Raises ConfigError
    if they do not fit the task's model."""
    named = model_parameters(task)
    found = assigned(_parts(optimizer, options), groups_of(options.get("groups")), named)
    return [(group, [named[number] for number in group.members]) for group in found]


def check_parameters(task: Mapping[str, Any], optimizer: str, options: Mapping[str, Any]) -> None:
    """Raises ConfigError if a row's `split` and `groups` do not fit the task's model, or if an
    optimizer does not take parameters of such a shape."""
    foreign = any(not find_optimizer(name).ships for _, name, _ in alone(optimizer, options))
    if foreign or _is_grouped(optimizer, options):
        for group, members in row_groups(task, optimizer, options):
            where = f"split.{group.part.label}: " if optimizer == "split" else ""
            _check_shapes(group.part, members, where)
            if (group.rate != 1 or not group.decays) and wants_names(
                find_optimizer(group.part.name).make
            ):
                raise ConfigError(
                    f"{where}optimizer '{group.part.name}' makes its own groups; leave out `groups`"
                )


def _check_shapes(part: Part, members: list[NamedShape], where: str) -> None:
    found = find_optimizer(part.name)
    takes, dimensions = "", range(10)
    if not found.ships:
        tried = try_optimizer(part.name, part.options)
        takes, dimensions = tried.takes, tried.dimensions
        if part.flatten and tried.has_modes:
            raise ConfigError(
                f"{where}optimizer '{part.name}' has train() and eval(), and cannot be combined"
                " with flatten: true"
            )
    elif where and (rule := found.rule_with(part.options)) is not None:
        for _ in of_matrices(nodes(rule.expr, rule.states)):
            takes, dimensions = "matrices", range(2, 3)
    for member in members:
        size = "x".join(map(str, member.shape)) or "a number"
        if part.flatten and len(member.shape) < 2:
            raise ConfigError(
                f"{where}flatten: true makes matrices of kernels, and {member.name} is {size}"
            )
        if (2 if part.flatten else len(member.shape)) in dimensions:
            continue
        name = f'"{part.name}"' if ":" in part.name else part.name
        raise ConfigError(
            f"{where}optimizer '{part.name}' takes only {takes}, and {member.name} is"
            f" {size}\n  give it those, e.g. optimizer: {{split: {{matrices: {name}, rest:"
            " torch.optim.AdamW}}; with flatten: true it takes kernels"
        )


def group_lines(task: Mapping[str, Any], optimizer: str, options: Mapping[str, Any]) -> list[str]:
    """What each optimizer of a row gets, a line per parameter group; [] for a row without groups.
    Raises ConfigError if the groups do not fit the model."""
    if not _is_grouped(optimizer, options):
        return []
    lines = []
    for group, members in row_groups(task, optimizer, options):
        kinds = dict.fromkeys(member.kind for member in members)
        lines.append(
            f"{group.part.name}: {len(members)} tensor{'s' * (len(members) != 1)},"
            f" {sum(member.size for member in members):,} parameters ({', '.join(kinds)})"
            + (f", rate x {group.rate:g}" if group.rate != 1 else "")
            + ("" if group.decays else ", no weight decay")
        )
    return lines


def _is_grouped(optimizer: str, options: Mapping[str, Any]) -> bool:
    return optimizer == "split" or "groups" in options


def _parts(optimizer: str, options: Mapping[str, Any]) -> list[Part]:
    if optimizer == "split":
        return parts_of(options.get("split"))
    ((_, name, own),) = alone(optimizer, options)
    return [Part("rest", name, own)]


def model_parameters(task: Mapping[str, Any]) -> list[NamedShape]:
    """The trained parameters of a task's model; ``task`` is a study's section."""
    return _model_parameters(json.dumps(task, sort_keys=True))


@functools.cache
def _model_parameters(task: str) -> list[NamedShape]:
    settings = json.loads(task)
    name = settings.pop("name")
    cls: Any = TASKS.find(name, "task.name")
    made = _made(cls, make_settings(name, settings))
    mark_kinds(made, made.output_layers())
    return [
        NamedShape(name, kind_of(p), tuple(p.shape))
        for name, p in made.named_parameters()
        if p.requires_grad
    ]


def _made(cls: Any, settings: Any) -> Task:
    """The task without memory for its weights, if it can be made so."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                made: Task = cls(settings)
        except NosError:
            raise
        except Exception:  # noqa: BLE001 it may read a value while it is made
            made = cls(settings)
    return made
