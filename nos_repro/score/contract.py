"""The contract of programs that evolve code: `evaluate(path) -> metrics`.

Each call scores in a process of its own, so that the caller's threads, random numbers and memory
stay as they are, and several calls may run at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nos_repro.errors import LaunchError

KEY = "NOS_REPRO_SCORE_KEY"
"""The variable of the environment that holds the secret key."""


def score(
    candidate: str | os.PathLike[str],
    *,
    config: str = "optimizers",
    scale: str = "full",
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
        scale: one of the file's scales.
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
    words = [str(candidate), "--config", config, "--scale", scale, "--format", "json", "--quiet"]
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
