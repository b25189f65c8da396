"""A run that was stopped and resumed against one that never stopped, and the same run twice."""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from nos_repro.bench.device_check.frame import Checking, CheckRow, failed
from nos_repro.bench.device_check.models import trial_of
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.settings_file import find_config
from nos_repro.experiments.training import Run

# fmt: off
RUNS = (
    # embedded data; batch norm, a rule that draws, dropout of an LSTM, another vocabulary
    ("table2", "PowerSign (cosine)"), ("table6", "drop(m, 0.3) * exp(1e-3 * w)"),
    ("table5", "Adam"), ("table4", "PowerSign"),
)
# fmt: on
QUICK_RUNS = 2
STEPS, STOP = 10, 6
FACTOR = 10
"""A resumed run may be so much farther from the whole one than that is from itself."""


def resuming(check: Checking) -> Iterator[CheckRow]:
    """The weights at the end, by how far they are apart."""
    with tempfile.TemporaryDirectory() as folder:
        for config, row in check.within(RUNS[: QUICK_RUNS if check.quick else None]):
            try:
                yield compared(check, config, row, Path(folder))
            except Exception as error:  # noqa: BLE001 the other runs are compared
                yield failed(f"{config}, {row}", error)


def compared(check: Checking, config: str, row: str, folder: Path) -> CheckRow:
    """A row of a study at the scale `smoke`."""
    study = load_study(find_config(config), scale="smoke", rows=[row], trying=False)
    conditions = Conditions(folder, device=check.device)
    whole, again = (weights_of(study, conditions) for _ in range(2))
    resumed = weights_of(study, conditions, stop=STOP)
    twice, apart = (float((other - whole).abs().max()) for other in (again, resumed))
    values = {
        "twice: largest difference": twice,
        "resumed: largest difference": apart,
        "largest weight": float(whole.abs().max()),
    }
    return CheckRow(f"{config}, {row}", values, apart <= FACTOR * twice)


def weights_of(study: Study, conditions: Conditions, stop: int | None = None) -> Tensor:
    """All weights after a few steps; with ``stop`` the run is saved there and another goes on."""
    trial = trial_of(study)
    run = build(trial, conditions)
    run.task.train()
    if stop is not None:
        _train(run, stop)
        run.bad_step()
        saved = io.BytesIO()
        torch.save(run.state(), saved)
        saved.seek(0)
        run = build(trial, conditions)
        run.task.train()
        run.restore(torch.load(saved, map_location="cpu", weights_only=True))
    _train(run, STEPS)
    return torch.cat([p.detach().double().flatten().cpu() for p in run.task.parameters()])


def _train(run: Run, until: int) -> None:
    batches = run.data.train_batches(0, run.batch)
    for batch in itertools.islice(batches, until - run.batch):
        run.train_step(run.to_device(batch))
