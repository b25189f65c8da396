"""The suite's commands as a user runs them, each in a new process: how long they take.

NOS_REPRO_BENCH_BEFORE names a checkout of an older commit, whose commands are timed in the same
rounds:

    git worktree add /tmp/before bf18b0a
    NOS_REPRO_BENCH_BEFORE=/tmp/before python -m nos_repro bench first-word report
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent


class Command:
    """`python ...` in ``checkout``, whose package `-m` then finds first.

    ``first``: the seconds to the first byte that it prints, on whichever stream (to its end if it
    prints nothing), ``processor``: the processor time of the whole; a value per call. Python keeps
    the compiled modules after the first call, as `pip install` does.
    """

    def __init__(self, *words: str, checkout: Path = PACKAGE) -> None:
        self.words = words
        self.checkout = checkout
        self.environment = {**os.environ, "PYTHONPATH": str(checkout)}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.first: list[float] = []
        self.processor: list[float] = []

    def __call__(self) -> None:
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, *self.words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.checkout,
        ) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            self.first.append(time.perf_counter() - start)
            while process.stdout.read(1 << 16):
                pass
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, self.words)
        self.processor.append(used.ru_utime + used.ru_stime)


def checkouts() -> dict[str, Path]:
    """What is timed: this package, and the one to compare with, by what a row says of them."""
    before = os.environ.get("NOS_REPRO_BENCH_BEFORE")
    return {"": PACKAGE} | ({f" (at {_commit(Path(before))})": Path(before)} if before else {})


def _commit(checkout: Path) -> str:
    words = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, encoding="utf-8").stdout.strip()
