"""Trials of Table 2 at `small`: how many train in an hour, and whether they end as accurate.

Needs CIFAR-10; half an hour. Ten seeds of SGD on WRN-10-1, in turns: as Table 2 at `small` began
(eager layers, an evaluation after each of the 8 epochs), and with what came since (batch norm and
ReLU as one layer, an evaluation after every other epoch). Accuracies count as equal if the means
lie within two standard errors of their difference.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from nos_repro.bench.child_training import standard_errors
from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio
from nos_repro.data import data_folder
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.load import load_study
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.settings_file import find_config
from nos_repro.experiments.trial import Training, Trial

SEEDS, EPOCHS, RATE = 10, 8, 0.1
WAYS = {
    "as it began": ({"fused": False}, 1),
    "now": ({"fused": True}, 2),
}


@BENCHMARKS.register("wide-resnet-trials")
def wide_resnet_trials() -> Iterator[Measurement]:
    """Seconds of a trial and its accuracy, one thread."""
    conditions = Conditions(data_folder(None), device="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    accuracy: dict[str, list[float]] = {way: [] for way in WAYS}
    try:
        for seed in range(SEEDS):
            for way in WAYS if seed % 2 == 0 else reversed(list(WAYS)):
                taken, right = _trained(way, seed, conditions)
                seconds[way].append(taken)
                accuracy[way].append(right)
    finally:
        torch.set_num_threads(threads)
    for way in WAYS:
        yield Measurement(f"a trial, {way}", Ratio.of(seconds[way], "s"))
        yield Measurement(
            f"a trial, {way}: accuracy of {SEEDS} seeds", Ratio.of(accuracy[way], "%")
        )
    yield Measurement(
        "trials an hour, now over as it began",
        Ratio.between(seconds, "as it began", "now"),
        at_least=1.5,
    )
    apart = standard_errors(accuracy["now"], accuracy["as it began"])
    yield Measurement(
        "now and as it began: means apart, in standard errors",
        Ratio(apart, apart, apart, SEEDS, "s.e."),
        at_most=2.0,
    )


def trial_of(way: str, seed: int) -> Trial:
    """SGD at one rate, as the row of Table 2 trains."""
    changes, every = WAYS[way]
    study = load_study(find_config("table2"), scale="small")
    return Trial(
        task="wide_resnet",
        task_settings={**{k: v for k, v in study.task.items() if k != "name"}, **changes},
        optimizer="sgd",
        lr=RATE,
        schedule="cosine",
        seed=seed,
        training=Training(epochs=EPOCHS, evaluate_every=every),
    )


def _trained(way: str, seed: int, conditions: Conditions) -> tuple[float, float]:
    """The seconds of a trial's training and evaluations, and its test accuracy at the end."""
    with tempfile.TemporaryDirectory() as folder:
        run_trial(trial_of(way, seed), Path(folder), conditions)
        record = json.loads((Path(folder) / "record.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished", record["reason"]
    return record["seconds"], record["metrics"][-1]["test_accuracy"]
