"""A training step of every model of the papers: its time, its memory, and what it waits for."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from nos_repro.bench.device_check.frame import Checking, CheckRow, Value, failed, in_one_line
from nos_repro.bench.device_check.models import (
    COMPILED,
    MODELS,
    TF32,
    CheckedModel,
    run_of,
    synthetic,
    trial_of,
)
from nos_repro.bench.device_counts import meta_run, second_step_waits
from nos_repro.experiments.training import CHECK_EVERY, Run
from nos_repro.experiments.trial import Trial, make_settings
from nos_repro.launch.device_timings import Timing
from nos_repro.tasks.base import TaskData

WARM, MOST = 1, 30
"""Steps."""
SECONDS = 3.0
"""Of the timed steps of a model, about."""
SYNCHRONISES = "synchronizing CUDA operation"
"""What torch says in `set_sync_debug_mode` of a value that the host reads, or a copy that it waits
for."""


def steps(check: Checking) -> Iterator[CheckRow]:
    """Every model by every setting. One that does not fit the device's memory is left out."""
    for model, how in check.within(_chosen(check)):
        what = f"{model.name}, {how}"
        try:
            timing, values = timed(check, model, how)
        except torch.cuda.OutOfMemoryError as error:
            check.notes.append(f"{what}: {in_one_line(error)}")
        except Exception as error:  # noqa: BLE001 the other models are timed
            yield failed(what, error)
        else:
            check.timings.append(timing)
            waits = values["waits per step"]
            yield CheckRow(what, values, None if waits is None else waits == 0)


def _chosen(check: Checking) -> Iterator[tuple[CheckedModel, str]]:
    """Every model by its first setting, then by its second, and so on; a quick check has the first
    and the last. Tiny models have neither TF32 nor a compiler's minutes."""
    chosen = []
    for model in MODELS:
        hows = [
            how
            for how, words in model.hows.items()
            if not (check.tiny and words[-1:] in (TF32, COMPILED))
        ]
        hows = hows[:: len(hows) - 1] if check.quick else hows
        chosen += [(place, model, how) for place, how in enumerate(hows)]
    for _, model, how in sorted(chosen, key=lambda each: each[0]):
        yield model, how


def timed(check: Checking, model: CheckedModel, how: str) -> tuple[Timing, dict[str, Value]]:
    """A model's step on the device. Raises what building or training it raises."""
    study = model.study(how, tiny=check.tiny)
    trial = trial_of(study)
    settings = make_settings(trial.task, trial.task_settings)
    data = synthetic(model, settings)
    run = run_of(study, data, check.device)
    first = _seconds_of(check, run, 1)
    step = step_seconds(check, run)
    memory = check.peak_gb()
    waits = waits_of(run) if check.cuda else meta_waits(trial, settings, data)
    evaluation = _evaluation_seconds(check, model, run) if model.evaluated else 0.0
    held = study.device.on(check.device, settings)
    timing = Timing(
        model=model.name,
        how=how,
        task=trial.task,
        settings=dataclasses.asdict(held.of_task(settings)),
        device_settings=held.to_json(),
        step_seconds=step,
        evaluation_seconds=evaluation,
        steps_per_epoch=data.steps_per_epoch,
        compilation_seconds=max(0.0, first - step) if held.compile else 0.0,
    )
    values: dict[str, Value] = {
        "ms per step": 1e3 * step,
        "first step, s": first,
        "peak memory, GB": memory,
        "waits per step": waits,
    }
    return timing, values


def step_seconds(check: Checking, run: Run) -> float:
    """Seconds of a step, as the loop makes them: the host runs ahead, and reads the losses every so
    many steps."""
    seconds = 0.0
    for _ in range(WARM):
        seconds = _seconds_of(check, run, 1)
    count = 1 if check.tiny else max(1, min(MOST, int(SECONDS / seconds)))
    return _seconds_of(check, run, count) / count


def _seconds_of(check: Checking, run: Run, count: int) -> float:
    check.wait()
    started = time.perf_counter()
    for batch in run.data.train_batches(0, run.data.steps_per_epoch - count):
        run.train_step(run.to_device(batch))
        if run.batch % CHECK_EVERY == 0:
            run.bad_step()
    run.bad_step()
    check.wait()
    return time.perf_counter() - started


def _evaluation_seconds(check: Checking, model: CheckedModel, run: Run) -> float:
    """Of all examples after an epoch, from one batch; the first warms up."""
    size = 8 if check.tiny else model.evaluation_batch
    batch = model.make(run.task.settings, torch.Generator().manual_seed(1), size)
    seconds = 0.0
    for _ in range(2):
        check.wait()
        started = time.perf_counter()
        run.evaluate(iter([batch]), "val")
        check.wait()
        seconds = time.perf_counter() - started
    return seconds * model.evaluated / size


def waits_of(run: Run) -> int | None:
    """How often torch makes the host wait for the GPU in a step; None if it does not tell of a wait
    that is known, the first."""
    (batch,) = run.data.train_batches(0, run.data.steps_per_epoch - 1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            torch.zeros((), device=run.fabric.device).item()
            run.train_step(run.to_device(batch))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    count = sum(SYNCHRONISES in str(each.message) for each in told)
    return count - 1 if count else None


def meta_waits(trial: Trial, settings: Any, data: TaskData) -> int:
    """The same without a GPU: the values that a step reads and the copies it waits for, counted on
    the meta device after a first step."""
    run = meta_run(trial.task, dataclasses.asdict(settings), trial.optimizer, data)
    waits = second_step_waits(run)
    return (waits.synchronisations + waits.copies).total()
