"""What a study on SLURM costs the machine that starts it: queueing it, and waiting for it.

This needs a real SLURM, where `squeue` answers; the 500 jobs are held, so that nothing runs, and
are cancelled at the end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.load import task_section
from nos_repro.experiments.schema import Row, Selection, Study
from nos_repro.experiments.store import Store
from nos_repro.launch.progress import PlainStudyDisplay
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.slurm.launcher import Slurm
from nos_repro.launch.slurm.recovery import cancel_all
from nos_repro.launch.study_run import StudyRun
from nos_repro.launch.work import TrialJob

TRIALS, WATCH_SECONDS = 500, 60.0


@BENCHMARKS.register("slurm-front-end")
def slurm_front_end() -> Iterator[Measurement]:
    """Seconds to queue 500 trials, and the share of a core that waiting for them takes."""
    if not _answers():
        print("  not measured: squeue does not answer here", flush=True)
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = Store(Path(folder), "front_end", "smoke")
        settings = LauncherSettings(name="slurm", sbatch={"hold": True})
        launcher: Slurm[TrialJob] = Slurm(settings, store.root / "slurm", "nos-bench")
        study_run = StudyRun(_study(), store, launcher, Conditions(Path(folder)), _Watching())
        try:
            started = time.perf_counter()
            queued = study_run.hand_over()
            assert launcher.flush(), "SLURM did not take the jobs"
            seconds = time.perf_counter() - started
            yield Measurement(f"queueing {queued} trials", Ratio.of([seconds], "s"), at_most=10.0)
            yield Measurement(
                "waiting for them, of a core", Ratio.of([_share(study_run)], "%"), at_most=2.0
            )
        finally:
            cancel_all(launcher.ledger)


def _answers() -> bool:
    try:
        return subprocess.run(["squeue", "--noheader"], capture_output=True).returncode == 0
    except OSError:
        return False


def _study() -> Study:
    return Study(
        study="front_end",
        source="benchmark",
        claim="none",
        task=task_section({"name": "convnet", "data": "digits"}),
        rows={f"row {n}": Row("sgd", seed=n) for n in range(TRIALS // 10)},
        columns={"best_test": "Best Test"},
        sweep={"lr": [10.0**-n for n in range(10)]},
        selection=Selection(),
        scale="smoke",
    )


class _Watching(PlainStudyDisplay):
    """What a user sees without a terminal, for a minute."""

    def __init__(self) -> None:
        super().__init__()
        self.end = float("inf")

    def update(self, state: StudyRun) -> None:
        super().update(state)
        if time.monotonic() > self.end:
            raise KeyboardInterrupt


def _share(study_run: StudyRun) -> float:
    """Processor time of this process and of the commands it runs, in per cent of the elapsed
    time."""
    assert isinstance(study_run.display, _Watching)
    study_run.display.end = time.monotonic() + WATCH_SECONDS
    before, started = sum(os.times()[:4]), time.perf_counter()
    with contextlib.suppress(KeyboardInterrupt):
        study_run.run()
    return 100 * (sum(os.times()[:4]) - before) / (time.perf_counter() - started)
