"""Training steps of the 10 M parameter GNMT on Multi30k, two cores. Needs Multi30k.

The model is that of `configs/table4.yaml` at scale small; the steps are a trial's own, with
clipping and update. The yardstick is a well-known toolkit's model of that size on data of that
shape, which makes 2,940 target tokens per second in fp32 on two cores whose matrix product reaches
210 GFLOP/s, with freed memory kept. The budget is 1.5 times that on any machine. Since machines
differ, tokens per GFLOP of such a product have a budget too, in fp32. Tokens are target word
pieces: END counts, padding does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.data import data_folder
from nos_repro.data.wordpieces import PAD
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import find_config
from nos_repro.experiments.training import Run
from nos_repro.launch.work import keep_freed_memory

CORES, ROUNDS, STEPS = 2, 8, 6
TOKENS_A_SECOND = 4400.0
TOKENS_A_GFLOP = 20.0
TOOLKIT = 2940 / 210
"""The toolkit's target tokens per GFLOP of matrix product."""
SIDE = 2048
"""Side of the square matrices whose product is timed."""


@BENCHMARKS.register("gnmt-training")
def gnmt_training() -> Iterator[Measurement]:
    """Padding, target tokens per second in both precisions, and the machine's matrix product."""
    threads = torch.get_num_threads()
    torch.set_num_threads(CORES)
    keep_freed_memory()
    try:
        runs = {precision: small_gnmt(precision=precision) for precision in ("bf16", "32")}
        yield Measurement(
            "padding, both sides", Ratio.of([_padding(runs["bf16"])], "%"), at_most=10.0
        )
        trainings = [_Training(runs["bf16"], CORES), _Training(runs["bf16"], 1),
                     _Training(runs["32"], CORES)]  # fmt: skip
        matrices = torch.randn(2, SIDE, SIDE)
        subjects: dict[str, Callable[[], object]] = {"product": lambda: matrices[0] @ matrices[1]}
        seconds = interleave(subjects | {t.what: t for t in trainings}, rounds=ROUNDS)
        for training in trainings:
            pairs = zip(training.counts[-ROUNDS:], seconds[training.what], strict=True)
            rate = Ratio.of([count / taken for count, taken in pairs], "target tokens/s")
            budget = TOKENS_A_SECOND if training is trainings[0] else None
            yield Measurement(training.what, rate, at_least=budget)
            if training.cores == CORES:
                each = [2 * SIDE**3 / 1e9 / taken for taken in seconds["product"]]
                counts = zip(training.counts[-ROUNDS:], seconds[training.what], each, strict=True)
                share = Ratio.of([n / taken / flops for n, taken, flops in counts], "tokens/GFLOP")
                budget = TOKENS_A_GFLOP if training is trainings[-1] else None
                what = f"  per GFLOP of its product (toolkit: {TOOLKIT:.0f})"
                yield Measurement(what, share, at_least=budget)
        flops = Ratio.rate(seconds["product"], 2 * SIDE**3 / 1e9, "GFLOP/s")
        yield Measurement(f"this machine's fp32 matrix product, {CORES} cores", flops)
    finally:
        torch.set_num_threads(threads)


def small_gnmt(**changes: Any) -> Run:
    """A run of Table 4's first row at scale small, at its first step."""
    overrides = [f"task.{key}={value}" for key, value in changes.items()]
    study = load_study(find_config("table4"), scale="small", overrides=overrides)
    row = next(iter(study.rows.values()))
    trial = sweep_trial(study, row, points(study, row)[0])
    run = build(trial, Conditions(data_folder(None), device="cpu"))
    run.task.train()
    return run


class _Training:
    """Each call is a round of a few steps on the next batches; it counts the tokens."""

    def __init__(self, run: Run, cores: int) -> None:
        self.run = run
        self.cores = cores
        epochs = (run.data.train_batches(epoch) for epoch in itertools.count())
        self.batches = itertools.chain.from_iterable(epochs)
        self.counts: list[int] = []

    @property
    def what(self) -> str:
        millions = sum(p.numel() for p in self.run.task.parameters()) / 1e6
        precision = "bf16" if self.run.task.settings.precision == "bf16" else "fp32"
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return f"{millions:.1f} M parameters, {precision}, {cores}"

    def __call__(self) -> None:
        torch.set_num_threads(self.cores)
        count = 0
        for batch in itertools.islice(self.batches, STEPS):
            self.run.train_step(batch)
            count += int((batch.target[:, 1:] != PAD).sum())
        self.counts.append(count)
        torch.set_num_threads(CORES)


def _padding(run: Run) -> float:
    """The percentage of an epoch's slots that are padding."""
    slots = real = 0
    for batch in run.data.train_batches(0):
        for side in (batch.source, batch.target[:, 1:]):
            slots += side.numel()
            real += int((side != PAD).sum())
    return 100 * (1 - real / slots)
