"""The tasks by name, what each of them must have, and the metrics that it names."""

from __future__ import annotations

import dataclasses
from string import Formatter
from typing import TYPE_CHECKING, Any

from nos_repro.errors import ConfigError, unknown
from nos_repro.registry import Registry, require_methods
from nos_repro.tasks.metrics import Metric

if TYPE_CHECKING:
    from nos_repro.tasks.base import Task
    from nos_repro.tasks.facts.base import TaskFacts


def _is_task(thing: object) -> bool:
    from nos_repro.tasks.base import Task

    return isinstance(thing, type) and issubclass(thing, Task)


def _check(name: str, cls: Any) -> None:
    """Raises ConfigError, which says what a task lacks, before anything is trained."""
    from nos_repro.tasks.base import Task

    what = f"task {name}"
    if not _is_task(cls):
        raise ConfigError(f"{what}: expected a class derived from Task, got {cls!r}")
    if not dataclasses.is_dataclass(getattr(cls, "Settings", None)):
        raise ConfigError(f"{what}: {cls.__name__} lacks Settings, the dataclass of its section")
    measures = getattr(cls, "measures", None)
    if not measures or not all(isinstance(metric, Metric) for metric in measures):
        raise ConfigError(f"{what}: {cls.__name__} lacks measures: tuple[Metric, ...]")
    names = [metric.name for metric in measures]
    if len(set(names)) < len(names):
        raise ConfigError(f"{what}: {cls.__name__} measures a metric twice: {' '.join(names)}")
    settings = [field.name for field in dataclasses.fields(cls.Settings)]
    for _, key, _, _ in Formatter().parse(cls.label):
        if key is not None and key not in settings:
            raise ConfigError(f"{what}: label: {unknown('setting', key, settings)}")
    require_methods(what, cls, Task, *Task.__bases__)


TASKS: Registry[type[Task]] = Registry(
    "task", "nos_repro.tasks", check=_check, recognise=_is_task, key="task.name"
)
"""Its decorator makes `task: {name: NAME}` mean the Task that it is put on:

    @TASKS.register("my_task")
    class MyTask(Task): ...
"""


FACTS: Registry[type[TaskFacts]] = Registry("task", "nos_repro.tasks.facts")
"""The facts about the tasks that ship, under the same names: they are read without torch."""


def describe(task: str) -> type[TaskFacts]:
    """The facts about a task; one from outside is imported for that, with all that it imports.

    Raises ConfigError like `TASKS.find`.
    """
    return FACTS.find(task) if task in FACTS.names() else TASKS.find(task)


def find_metric(task: str, name: str = "") -> Metric:
    """A task's metric of that name, by default the one that decides: its first.

    Raises ConfigError if the task has none of that name.
    """
    measures = describe(task).measures
    for metric in measures:
        if name in ("", metric.name):
            return metric
    raise ConfigError(unknown(f"metric of {task}", name, [metric.name for metric in measures]))
