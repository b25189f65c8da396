"""A study small enough to train in a second, on the embedded digits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Row, Selection, Study, Training
from nos_repro.experiments.trial import Trial
from nos_repro.tasks import TASKS

TASK = {"data": "digits", "batch_size": 50, "train_images": 200, "validation_images": 100}


def filled(**settings: Any) -> dict[str, Any]:
    cls = TASKS.find("convnet")
    values = dataclasses.asdict(cls.Settings(**{**TASK, **settings}))
    return json.loads(json.dumps(values))


def digits_trial(**changes: Any) -> Trial:
    values: dict[str, Any] = {
        "task": "convnet",
        "task_settings": filled(),
        "optimizer": "powersign",
        "lr": 0.05,
        "training": Training(epochs=2),
    }
    return Trial(**{**values, **changes})


def digits_study(rows: dict[str, Row] | None = None, **changes: Any) -> Study:
    values: dict[str, Any] = {
        "study": "tiny",
        "source": "002 Table 0",
        "claim": "small enough for a test",
        "task": {"name": "convnet", **filled()},
        "rows": rows or {"SGD": Row("sgd"), "PowerSign": Row("powersign")},
        "columns": {"best_test": "Best Test", "final_test": "Final Test"},
        "training": Training(epochs=1),
        "sweep": {"lr": [0.01, 0.1]},
        "selection": Selection(repeats=2),
        "scale": "smoke",
    }
    return Study(**{**values, **changes})


def write_record(folder: Path, made: Trial, **changes: Any) -> Record:
    """A record as the runner would write it, without the training."""
    values: dict[str, Any] = {
        "id": made.id,
        "status": "finished",
        "trial": made.to_json(),
        "metric": "accuracy",
        "direction": "max",
        "metrics": [{"epoch": 1, "step": 4, "val_accuracy": 50.0, "test_accuracy": 49.0}],
        "steps": 4,
        "seconds": 1.0,
        "examples_per_second": 200.0,
        "memory_gb": 0.1,
        "code": "0" * 12,
    }
    record = Record(**{**values, **changes})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record.to_json()))
    return record
