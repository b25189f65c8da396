"""Rules that take matrices alone, and tasks that have other parameters too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nos_repro.errors import ConfigError
from nos_repro.experiments.trial import make_settings
from nos_repro.rules.primitives import UNARY_2
from nos_repro.rules.tree import Expr, Unary
from nos_repro.tasks.registry import TASKS

NO_NUMBERS = "checks settings (experiments.digest)"


def of_matrices(nodes: Iterable[Expr]) -> Iterator[str]:
    """The functions among these nodes that only matrices have."""
    for node in nodes:
        match node:
            case Unary(function) if function in UNARY_2 and UNARY_2[function].scope == "matrix":
                yield function


def check_only_matrices(function: str, task: Mapping[str, Any]) -> None:
    """Raises ConfigError if a task, given by its section, has parameters that are not matrices."""
    import torch

    settings = {key: value for key, value in task.items() if key != "name"}
    with torch.device("meta"):
        model = TASKS.find(task["name"])(make_settings(task["name"], settings))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    others = [name for name, shape in shapes.items() if len(shape) != 2]
    if others:
        raise ConfigError(
            f"{function} takes matrices alone, and {len(others)} of the {len(shapes)} parameters of"
            f" the task {task['name']} are none, such as {others[0]} of shape {shapes[others[0]]}"
        )
