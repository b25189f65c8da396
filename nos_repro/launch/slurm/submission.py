"""Turns a batch into an array of SLURM jobs; Submitit writes the script, pickles and submits."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from nos_repro.errors import LaunchError
from nos_repro.experiments.files import StoreError
from nos_repro.launch.base import J
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.slurm.ledger import JobArray
from nos_repro.launch.slurm.pack import SIGNALS, Pack

WAIT_SECONDS = 60

NO_LIMIT = 10**6
"""Submitit counts any signal to a job of ten minutes or less as a time-out, and gives up after a
few. Instead, `pack.MAX_TIMEOUTS` is the limit, which counts only time-outs without new progress."""


class RefusedError(Exception):
    """sbatch did not accept a batch, or did not confirm it; the message is sbatch's."""


def submit(
    batch: JobArray, jobs: Sequence[Sequence[J]], settings: LauncherSettings, parallelism: int
) -> None:
    """Queues the packs of a batch, to run ``parallelism`` at a time, and saves its number.

    Raises RefusedError, StoreError.
    """
    folder = batch.folder / "submitit"
    folder.mkdir(exist_ok=True)
    executor = _executor(folder, batch.name, settings, parallelism)
    try:
        with _outside_slurm(), executor.batch():
            handles = [
                executor.submit(
                    Pack(
                        folder=batch.folder,
                        number=number,
                        jobs=pack,
                        threads=settings.cpus,
                        minutes=settings.minutes,
                        signal_seconds=settings.signal_seconds,
                        nodes=settings.nodes,
                        processes=settings.processes_per_node,
                    )
                )
                for number, pack in enumerate(jobs)
            ]
    except (FailedJobError, FailedSubmissionError) as error:
        raise RefusedError(str(error).strip()) from None
    except OSError as error:
        where = error.filename or batch.folder
        raise StoreError(f"cannot write {where}: {error.strerror}") from None
    batch.array = handles[0].job_id.split("_")[0]
    batch.save()


def script(folder: Path, name: str, packs: int, settings: LauncherSettings) -> str:
    """The sbatch script that `submit` would hand to SLURM; nothing is written."""
    executor = _executor(folder / "submitit", name, settings, settings.array_parallelism)
    if packs > 1:
        executor.parameters["map_count"] = packs
    text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
    return text


def _executor(
    folder: Path, name: str, settings: LauncherSettings, parallelism: int
) -> submitit.SlurmExecutor:
    if shutil.which("srun") is None or shutil.which("sbatch") is None:
        raise LaunchError(
            "launcher=slurm: no sbatch here; run this on a machine of a SLURM cluster"
        )
    if "%" in str(folder):
        raise LaunchError(
            f"{folder}: SLURM puts numbers and names in the place of %; choose other --results"
        )
    executor = submitit.SlurmExecutor(
        folder, max_num_timeout=NO_LIMIT, python=_interpreter(settings.python)
    )
    executor.update_parameters(**_parameters(name, settings, parallelism))
    return executor


def _interpreter(python: str | None) -> str:
    """The command that starts Python with SLURM's warning signal ignored, which would else end it
    before it can handle signals."""
    warning = SIGNALS[0].name.removeprefix("SIG")
    return f"""sh -c 'trap "" {warning}; exec "$0" "$@"' {python or shlex.quote(sys.executable)}"""


def _parameters(name: str, settings: LauncherSettings, parallelism: int) -> dict[str, Any]:
    """The resources in Submitit's terms. srun does not inherit the cores per task by itself.

    If one process of a trial ends, the others have a minute to report what happened.
    """
    options = {key: value for key, value in settings.sbatch.items() if value is not False}
    chosen: dict[str, Any] = {
        "job_name": name,
        "time": settings.minutes,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.processes_per_node,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus or None,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "setup": settings.setup or None,
        "signal_delay_s": settings.signal_seconds,
        "array_parallelism": parallelism,
        "additional_parameters": {"requeue": True, **options},
        "srun_args": [f"--cpus-per-task={settings.cpus}", f"--wait={WAIT_SECONDS}"],
    }
    if settings.memory_gb is not None:
        chosen["mem"] = f"{round(settings.memory_gb * 1024)}MB"
    return {key: value for key, value in chosen.items() if value is not None}


@contextlib.contextmanager
def _outside_slurm() -> Iterator[None]:
    """Hides that this process may itself be a SLURM job, since what it submits would inherit the
    job's shape. `SLURM_CONF` and the user's defaults for sbatch are kept."""
    keep = {k: v for k, v in os.environ.items() if k == "SLURM_CONF" or k.startswith("SBATCH_")}
    with submitit.helpers.clean_env():
        os.environ.update(keep)
        yield
