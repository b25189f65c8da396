"""The tasks by name: the package's own, and third parties' (`task: my_package.my_task`)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from nos_repro.data.plugins import import_plugin
from nos_repro.errors import ConfigError, unknown

if TYPE_CHECKING:
    from nos_repro.tasks.base import Task

TASKS: dict[str, type[Task]] = {}
T = TypeVar("T", bound="type[Task]")


def register_task(name: str) -> Callable[[T], T]:
    """Class decorator: makes `task: {name: NAME}` mean this Task."""

    def add(cls: T) -> T:
        TASKS[name] = cls
        return cls

    return add


def list_tasks() -> list[str]:
    """The names of all registered tasks: every module of this package is imported."""
    package = importlib.import_module("nos_repro.tasks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nos_repro.tasks.{module.name}")
    return sorted(TASKS)


def find_task(name: str) -> type[Task]:
    """The Task of that name; `my_package.my_task` is the one Task that this module defines.

    Raises ConfigError for a name that nobody registered.
    """
    if "." in name:
        return _plugin(name)
    if name not in TASKS:
        names = list_tasks()
        if name not in names:
            raise ConfigError(unknown("task", name, names))
    return TASKS[name]


def _plugin(name: str) -> type[Task]:
    from nos_repro.tasks.base import Task

    import_plugin("task.name", name)
    module = importlib.import_module(name)
    own = {
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == name
    }
    registered = {cls for cls in TASKS.values() if cls.__module__ == name}
    candidates = registered or own
    if len(candidates) != 1:
        raise ConfigError(f"task.name: {name} must define one Task, not {len(candidates)}")
    return candidates.pop()
