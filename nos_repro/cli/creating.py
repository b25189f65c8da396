"""The verb `new`: templates that run as they are."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from nos_repro.cli.closing import say_next
from nos_repro.cli.common import Verbs, add_verb
from nos_repro.cli.terminal import command
from nos_repro.errors import ConfigError

DIGITS = "{name: convnet, data: digits}  # no download; `new task` writes one of your own"


@dataclass(frozen=True)
class Written:
    """What can be written: ``files`` are names and templates, both with ``$name``; ``module``: the
    name is that of a Python module. ``next`` are the commands to try and what they do."""

    files: dict[str, str]
    next: dict[str, str]
    module: bool = False


# fmt: off
KINDS = {
    "study": Written({"$name.yaml": "study.yaml"}, {
        "run $name.yaml": "train it: a minute",
        "run $name.yaml --scale full --dry-run": "what the larger scale would take",
    }),
    "search": Written({"$name.yaml": "search.yaml"}, {
        "check $task": "whether the task keeps its contract",
        "search $name.yaml": "search: a minute",
    }),
    "task": Written({"$name.py": "task.py.txt"}, {
        "check $name.$cls": "whether it keeps its contract; before any hours are spent",
        "new study ${name}_study --task $name.$cls": "a study that trains it",
        "new search ${name}_search --task $name.$cls": "a search for update rules on it",
    }, module=True),
    "optimizer": Written({"$name.py": "optimizer.py.txt", "$name.yaml": "optimizer.yaml"}, {
        "run $name.yaml": "both against Adam and SGD: seconds",
    }, module=True),
}
# fmt: on


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "new", new,
                      "write a study, search, task or optimizer to start from, which runs as it is",
                      "new study my_study", "new task my_task",
                      "new search my_search --task my_task.MyTask",
                      "new optimizer my_optimizer")  # fmt: skip
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=" | ".join(KINDS))
    parser.add_argument("name", nargs="?", metavar="NAME",
                        help="its name, and its files' (default: my_KIND); existing files are never"
                        " overwritten")  # fmt: skip
    parser.add_argument("--task", metavar="TASK",
                        help="of a study or search: a task that ships, or your_module.YourTask; a"
                        " search without it gets a task of its own")  # fmt: skip


def new(options: argparse.Namespace) -> int:
    kind, task = KINDS[options.kind], options.task
    name = _checked_name(options.name or f"my_{options.kind}", module=kind.module)
    files, words = dict(kind.files), {"name": name, "cls": _class_name(name), "command": command()}
    if task is None and options.kind == "search":
        module = _checked_name(f"{name}_task", module=True)
        words |= {"cls": _class_name(module)}
        task = f"{module}.{words['cls']}"
        files[f"{module}.py"] = "task.py.txt"
    elif task is not None:
        _check_task(options.kind, task)
    words["task"] = task if options.kind == "search" else _section(task)
    texts = {Path(_filled(file, words)): _template(each) for file, each in files.items()}
    for path in texts:
        if path.exists():
            raise ConfigError(f"{path} exists, and nothing is overwritten; choose another NAME")
    for path, text in texts.items():
        own = {**words, "name": path.stem} if path.suffix == ".py" else words
        with open(path, "x", encoding="utf-8") as file:
            file.write(_filled(text, own))
        print(f"wrote {path}")
    say_next({_filled(each, words): what for each, what in kind.next.items()})
    return 0


def _checked_name(name: str, *, module: bool) -> str:
    """The name without a suffix. Raises ConfigError for one that cannot name such a file."""
    from nos_repro.experiments.settings_file import shipped

    stem = re.sub(r"\.(py|yaml|yml)$", "", name)
    if not re.fullmatch(r"[A-Za-z_]\w*" if module else r"\w[\w-]*", stem, re.ASCII):
        what = "letters, digits and _, as for a Python module" if module else "letters, digits, _ -"
        raise ConfigError(f"NAME must be a plain word ({what}), got {name!r}; the file is written"
                          " into this folder")  # fmt: skip
    if stem in shipped():
        raise ConfigError(f"NAME: {stem} is a study or search that ships; choose another")
    if module and not Path(f"{stem}.py").exists() and _is_taken(stem):
        raise ConfigError(f"NAME: {stem} is a Python module already; choose another")
    return stem


def _is_taken(module: str) -> bool:
    if keyword.iskeyword(module) or module in sys.modules:
        return True
    return importlib.util.find_spec(module) is not None


def _check_task(kind: str, task: str) -> None:
    """Raises ConfigError unless the option makes sense and the task is there."""
    from nos_repro.tasks.registry import TASKS

    if kind not in ("study", "search"):
        raise ConfigError(f"--task is for a study or a search, not for new {kind}")
    TASKS.check(task)


def _section(task: str | None) -> str:
    return f"task: {{name: {task}}}" if task is not None else f"task: {DIGITS}"


def _class_name(name: str) -> str:
    """`my_task` -> `MyTask`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) or "Mine"


def _template(name: str) -> str:
    return resources.files("nos_repro.cli").joinpath("templates", name).read_text("utf-8")


def _filled(text: str, words: dict[str, str]) -> str:
    return Template(text).substitute(words)
