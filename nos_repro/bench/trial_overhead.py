"""A trial against a bare loop over the same steps: what the suite's own loop costs.

Both train the small ConvNet on the digits and evaluate it after every epoch; the trial also checks
its losses, sends heartbeats, and writes its metrics and its checkpoint. The budget is 1.05x.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.heartbeat import Heartbeat
from nos_repro.experiments.runner import write_metrics
from nos_repro.experiments.training import Run, train
from nos_repro.experiments.trial import Training, Trial
from nos_repro.tasks.facts.convnet import ConvNetSettings

EPOCHS, ROUNDS = 3, 10


@BENCHMARKS.register("trial-overhead")
def trial_overhead() -> Iterator[Measurement]:
    """Seconds of the trial over seconds of the bare loop, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            seconds = interleave(
                {"trial": _trial(Path(folder)), "bare": _bare(_built())}, rounds=ROUNDS
            )
        yield Measurement(
            "a trial over a bare loop", Ratio.between(seconds, "trial", "bare"), at_most=1.05
        )
    finally:
        torch.set_num_threads(threads)


def _built() -> Run:
    settings = dataclasses.asdict(ConvNetSettings(data="digits"))
    trial = Trial(
        task="convnet",
        task_settings=json.loads(json.dumps(settings)),
        optimizer="sgd",
        lr=0.01,
        training=Training(epochs=EPOCHS),
    )
    return build(trial, Conditions(Path("unused")))


def _trial(folder: Path) -> Callable[[], object]:
    run, heartbeat = _built(), Heartbeat(folder)

    def work() -> None:
        run.epoch, run.history = 0, []
        train(
            run,
            Checkpoints(folder),
            on_step=lambda r: heartbeat.beat(r.step, None),
            on_metrics=lambda r: write_metrics(folder, r.history),
        )

    return work


def _bare(run: Run) -> Callable[[], object]:
    task, data, optimizer, schedule = run.task, run.data, run.bare_optimizer, run.schedule

    def work() -> None:
        for epoch in range(EPOCHS):
            task.train()
            for batch in data.train_batches(epoch):
                loss = task.training_step(batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            task.eval()
            with torch.no_grad():
                for part in (data.val_batches(), data.test_batches()):
                    sum(task.evaluation_sums(batch)["correct"] for batch in part)

    return work
