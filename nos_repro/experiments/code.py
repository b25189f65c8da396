"""Which code makes a trial's numbers, as a digest that its record keeps.

A record with another digest than the current one is stale: something that the trial executed has
changed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import orjson

from nos_repro.data.paths import user_cache
from nos_repro.experiments.digest import Sources
from nos_repro.experiments.kept_digests import KeptDigests
from nos_repro.experiments.trial import make_settings
from nos_repro.optim.lookup import find_optimizer
from nos_repro.optim.registry import SCHEDULES
from nos_repro.tasks.registry import TASKS, describe

ENGINE = (
    "nos_repro.experiments.build:build",
    "nos_repro.experiments.training:train",
    "nos_repro.experiments.training:Run.restore",
    "nos_repro.experiments.checkpoint:Checkpoints",
)
"""What every trial executes, whatever it trains: building, training, saving, resuming."""


def trial_code(trial: Mapping[str, Any]) -> str:
    """The digest for a trial with these settings (`Trial.to_json`), of the current code.

    Raises ConfigError or RuleError if the settings name something that does not exist.
    """
    return code_digest(*trial_roots(trial))


def trial_roots(trial: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """The definitions from which a trial's code is reached, and the text of its rule."""
    optimizer = trial["optimizer"], orjson.dumps(trial.get("options", {}))
    task = trial["task"], _sorted(trial["task_settings"])
    return _trial_roots(*task, *optimizer, trial.get("schedule", "constant"))


@functools.cache
def _trial_roots(
    task: str, settings: bytes, optimizer: str, options: bytes, schedule: str
) -> tuple[tuple[str, ...], str]:
    roots, rule = _optimizer_roots(optimizer, options)
    return (*ENGINE, *_task_roots(task, settings), *roots, SCHEDULES.entry(schedule).origin), rule


def task_roots(task: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What a trial of this task executes with any optimizer."""
    return (*ENGINE, *_task_roots(task, _sorted(settings)))


def _sorted(settings: Mapping[str, Any]) -> bytes:
    return orjson.dumps(settings, option=orjson.OPT_SORT_KEYS)


@functools.cache
def code_digest(roots: tuple[str, ...], *texts: str) -> str:
    """`Sources.digest` of the code as it was when this process first read it."""
    return _kept().digest(roots, *texts)


@functools.cache
def _kept() -> KeptDigests:
    folder = user_cache() / "code"
    return KeptDigests(Sources(kept=folder), folder)


@functools.cache
def _optimizer_roots(name: str, options: bytes) -> tuple[tuple[str, ...], str]:
    roots, rule = find_optimizer(name).code(orjson.loads(options))
    return tuple(roots), rule


@functools.cache
def _task_roots(name: str, settings: bytes) -> tuple[str, ...]:
    origin = TASKS.entry(name, "task.name").origin
    return origin, *describe(name).code(make_settings(name, orjson.loads(settings)))
