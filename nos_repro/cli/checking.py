"""The verb `check`: a task of your own, or one that ships, before any hours are spent on it."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.cli.closing import say_next
from nos_repro.cli.common import (
    Verbs,
    add_verb,
    data_argument,
    format_argument,
    overrides_argument,
    print_document,
    threads_argument,
)
from nos_repro.cli.terminal import columns
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.experiments.task_check import Checked

WORDS = {"passed": "passed", "failed": "FAILED", "note": "note"}


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "check", check,
                      "try a task with a few updates: batches, loss, metrics, equal runs, resuming",
                      "check my_task.MyTask", "check my_package.my_task:MyTask width=64",
                      "check convnet data=digits")  # fmt: skip
    parser.add_argument("task", metavar="TASK",
                        help="one that ships, or a module of yours: my_task.MyTask")  # fmt: skip
    overrides_argument(parser, "settings of the task, e.g. batch_size=32")
    data_argument(parser)
    threads_argument(parser)
    format_argument(parser)


def check(options: argparse.Namespace) -> int:
    import torch

    from nos_repro.experiments.load import task_section
    from nos_repro.experiments.overrides import command_line
    from nos_repro.experiments.task_check import TaskCheck
    from nos_repro.launch.run import conditions_of, worker_count

    worker_count(None, options.threads)  # what it says of a wrong number
    torch.set_num_threads(options.threads)
    given = command_line([{}], options.overrides)
    asked = {**given.pop("task", {}), **given}
    conditions = conditions_of(options.data, 60.0)
    as_json = options.format == "json"
    task = _task_name(options.task)
    settings = {} if _broken(task) else task_section({"name": task, **asked})
    settings.pop("name", None)
    found = []
    for each in TaskCheck(task, settings, conditions).run():
        found.append(each)
        if not as_json:
            print(_line(each), flush=True)
    failed = sum(each.status == "failed" for each in found)
    if as_json:
        from nos_repro.report.documents.base import document

        print_document(document("check", task=task, settings=asked, passed=not failed,
                                checks=found))  # fmt: skip
    else:
        passed = sum(each.status == "passed" for each in found)
        counts = f"{passed} passed, {failed} failed, {len(found) - passed - failed} noted"
        print(f"{task}: {counts}")
        if not failed:
            say_next({
                f"new study my_study --task {task}": "a study that trains it",
                f"new search my_search --task {task}": "a search for update rules on it",
            })  # fmt: skip
    return 1 if failed else 0


def _line(found: Checked) -> str:
    head = f"{WORDS[found.status]:<7} {found.check:<11} "
    return textwrap.fill(
        found.said,
        columns(),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
    )


def _broken(task: str) -> bool:
    """Whether it lacks what a task must have, which its first check says."""
    from nos_repro.tasks.registry import TASKS

    try:
        TASKS.find(task)
    except ConfigError:
        return True
    return False


def _task_name(given: str) -> str:
    """The task as a file names it: `my_module.MyTask` for `my_module:MyTask`, `my_module.py` and
    `my_module`. Raises ConfigError if there is none."""
    from nos_repro.extras import import_own
    from nos_repro.tasks.base import Task
    from nos_repro.tasks.registry import TASKS

    name = given.replace(":", ".")
    if given.endswith(".py"):
        name = ".".join(Path(given).with_suffix("").parts)
    own_module = name.isidentifier() and name not in TASKS.names()
    if own_module and (module := import_own(name)) is not None:
        own = [
            thing for thing in vars(module).values()
            if isinstance(thing, type) and issubclass(thing, Task) and thing.__module__ == name
        ]  # fmt: skip
        if len(own) != 1:
            which = ", e.g. " + f"{name}.{own[0].__name__}" if own else ""
            raise ConfigError(f"{given} defines {len(own)} tasks; name one{which}")
        name = f"{name}.{own[0].__name__}"
    TASKS.entry(name)
    return name
