"""Records without training: a study's store filled by a function of the trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nos_repro.experiments.code import trial_code
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from tests.experiments.helpers import write_record

Ending = Callable[[Trial], "dict[str, Any] | None"]

PROVENANCE = {
    "host": "box",
    "device": "Some CPU (2 cores)",
    "threads": 1,
    "python": "3.12.1",
    "libraries": {"torch": "2.9.0", "numpy": "2.1"},
    "commit": "0123456789ab",
}


def accuracy(*values: float) -> dict[str, Any]:
    """A finished trial whose validation accuracies are ``values``, the test's one lower."""
    points = [
        {"epoch": n, "step": 4 * n, "val_accuracy": value, "test_accuracy": value - 1}
        for n, value in enumerate(values, 1)
    ]
    return {"metrics": points}


def filled_store(study: Study, results: Path, ending: Ending) -> Store:
    """The study's store with the records that ``ending`` gives; None leaves a gap."""
    store = Store(results, study.study, study.scale)
    seen: set[str] = set()
    while True:
        trials = [t for row in outcomes(study, store) for t in row.trials if t.id not in seen]
        if not trials:
            return store
        for trial in trials:
            seen.add(trial.id)
            changes = ending(trial)
            if changes is not None:
                code = trial_code(trial.to_json())
                known = {"code": code, "provenance": PROVENANCE, "seconds": 36.0, **changes}
                write_record(store.folder(trial), trial, **known)
