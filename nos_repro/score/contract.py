"""The contract of programs that evolve code: `evaluate(path) -> metrics`.

Each call scores in a process of its own, so that the caller's threads, random numbers and memory
stay as they are, and several calls may run at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nos_repro.errors import LaunchError

if TYPE_CHECKING:
    from nos_repro.score.cascade import Scorer

KEY = "NOS_REPRO_SCORE_KEY"
"""The variable of the environment that holds the secret key."""


def score(
    candidate: str | os.PathLike[str],
    *,
    config: str = "optimizers",
    scale: str | None = None,
    stages: int = 3,
    first: int = 1,
    tasks: Sequence[str] = (),
    time_limit: float = 1800.0,
    memory: str = "4G",
    data: str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """The document that `score --format json` prints (kind `score`).

    Args:
        candidate: `FILE.py`, `FILE.py:NAME`, a rule's text or an optimizer's name.
        config: a scoring file, by path or name.
        scale: one of the file's scales (default: its first).
        stages: the last stage, from 0 (the probes alone) to 3.
        first: the stage that comes after the probes.
        tasks: only these tasks.
        time_limit: seconds for the candidate; tuning the baselines does not count.
        memory: what the candidate may take, such as "4G" or "512M".
        data: the folder of data sets.
        key: a secret from which seeds are drawn (default: $NOS_REPRO_SCORE_KEY).

    A candidate that fails, cheats or does not exist is an ordinary result: `valid` is false, and
    `reason` says why.

    Raises:
        LaunchError: the scoring itself failed; the message says why.
    """
    words = [str(candidate), "--config", config, "--format", "json", "--quiet"]
    words += [
        "--stages",
        str(stages),
        "--first",
        str(first),
        "--time-limit",
        str(time_limit),
        "--memory",
        memory,
    ]
    words += ["--scale", scale] if scale is not None else []
    words += ["--tasks", ",".join(tasks)] if tasks else []
    words += ["--data", str(data)] if data is not None else []
    environment = {**os.environ, **({} if key is None else {KEY: key})}
    done = subprocess.run(
        [sys.executable, "-m", "nos_repro", "score", *words],
        env={**environment, "PYTHONPATH": os.pathsep.join(_path())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise LaunchError(f"scoring {candidate} failed: {done.stderr.strip()[-2000:]}") from None
    return found


def _path() -> list[str]:
    """Where this process finds modules, for the one that scores."""
    return [str(Path(entry or ".").absolute()) for entry in sys.path]


def open_scorer(
    config: str = "optimizers",
    *,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    tasks: Sequence[str] = (),
    time_limit: float = 1800.0,
    memory: int = 4 << 30,
    data: str | os.PathLike[str] | None = None,
    key: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Scorer:
    """A `Scorer` of a scoring file, for a program that scores many candidates: this process keeps
    data and baselines, and computes the gradients. The arguments are those of `score`; ``memory``
    is in bytes, ``overrides`` are `key=value` words, ``tell`` is told what is being trained.

    Raises ConfigError.
    """
    from nos_repro.data.paths import data_folder
    from nos_repro.score.cascade import Scorer
    from nos_repro.score.settings import find_scoring, limits_of, load_scoring

    settings = load_scoring(find_scoring(config), scale=scale, overrides=overrides)
    settings = settings.with_tasks(tasks)
    limits = limits_of(time_limit, memory, settings)
    secret = os.environ.get(KEY, "") if key is None else key
    return Scorer(settings, limits, data_dir=data_folder(data), key=secret, tell=tell)


def evaluate(program_path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """The metrics of a candidate: numbers by name, `combined_score` and `valid` among them, and
    `reason`, a text, if it is not valid or was stopped. The options are those of `score`."""
    return _metrics(score(program_path, **options))


def evaluate_stage1(program_path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """The probes and the tasks of stage 1, for a program with a cascade of its own."""
    return evaluate(program_path, **{**options, "stages": 1})


def evaluate_stage2(program_path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """The tasks of stage 2 alone; `combined_score` is about them."""
    return evaluate(program_path, **{**options, "stages": 2, "first": 2})


def evaluate_stage3(program_path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """The held-out tasks alone, without a `combined_score`: no search should see one."""
    return evaluate(program_path, **{**options, "stages": 3, "first": 3})


def _metrics(document: dict[str, Any]) -> dict[str, Any]:
    reason = document["reason"] or document["stopped"]
    return {**document["metrics"], **({"reason": reason} if reason else {})}
