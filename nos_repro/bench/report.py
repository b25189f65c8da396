"""`report --all`, its pages, `report` and `verdicts` over 10,000 records.

The real commands, each in a new process, on a study of 100 rows of 100 trials with made-up records:
a grid of 90 points and ten repeats per row. Seconds of processor time, imports included.
`commands` says how to time an older commit beside it.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nos_repro.bench.commands import Command, checkouts
from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.load import load_study
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial

ROWS, RATES, DECAYS, REPEATS = 100, 10, 9, 10
BUDGETS = {12: 1.5, 100: 3.0}
"""Seconds of `report --all --html` by the points of a curve: most committed curves have about 12,
none more than about 130."""
ROUNDS = 5


@BENCHMARKS.register("report")
def report() -> Iterator[Measurement]:
    """Seconds of processor time for the commands, imports included."""
    places = checkouts()
    with tempfile.TemporaryDirectory() as folder:
        config = str(Path(folder) / "many.yaml")
        Path(config).write_text(json.dumps(many()), encoding="utf-8")
        study = load_study(Path(config))
        pages = str(Path(folder) / "pages")
        words = {
            "report --all --html": ["report", "--all", config, "--html", pages],
            "report --all": ["report", "--all", config],
            "report": ["report", config],
            "verdicts": ["verdicts", config],
        }
        commands, budgets = {}, {}
        for points, budget in BUDGETS.items():
            results = Path(folder) / str(points)
            number = fill(study, results, points)
            for verb, given in words.items():
                for name, place in places.items():
                    what = f"{verb}{name}: {number:,} records, curves of {points} points"
                    line = ["-m", "nos_repro", *given, "--results", str(results)]
                    commands[what] = Command(*line, checkout=place)
                    pages_of_ours = not name and verb == "report --all --html"
                    budgets[what] = budget if pages_of_ours else None
        interleave(commands, rounds=ROUNDS)
    for what, command in commands.items():
        seconds = command.processor[-ROUNDS:]  # without the warm-up
        yield Measurement(what, Ratio.of(seconds, "s"), at_most=budgets[what])


def many(rows: int = ROWS, repeats: int = REPEATS) -> dict[str, Any]:
    """The settings of a study with ROWS x (RATES x DECAYS + REPEATS) trials."""
    return {
        "study": "many",
        "source": "benchmark",
        "claim": "none",
        "task": {"name": "convnet", "data": "digits"},
        "training": {"epochs": 100},
        "sweep": {
            "lr": [10.0 ** (1 - n / 2) for n in range(RATES)],
            "weight_decay": [0.0, *(10.0 ** (-n / 2) for n in range(4, 3 + DECAYS))],
        },
        "selection": {"repeats": repeats},
        "columns": {"best_test": "Best Test", "final_test": "Final Test"},
        "rows": {
            f"row {n}": {"optimizer": "sgd", "seed": 1000 * n, "paper": {"best_test": 90.0}}
            for n in range(rows)
        },
        "scales": {"paper": {}},
    }


def fill(study: Study, results: Path, points: int) -> int:
    """Makes up a record for every trial, in the committed form; returns how many."""
    store = Store(results, study.study, study.scale)
    known: dict[str, Record] = {}
    while True:
        trials = [trial for row in outcomes(study, store) for trial in row.trials]
        new = {t.id: made_up(t, points) for t in trials if t.id not in known}
        if not new:
            return len(known)
        known |= new
        store.replace(*known.values())


def made_up(trial: Trial, points: int) -> Record:
    """A finished record with a curve of ``points``, derived from the trial's id."""
    draw = random.Random(trial.id)
    return Record(
        id=trial.id,
        status="finished",
        trial=trial.to_json(),
        metric="accuracy",
        direction="max",
        metrics=[_point(epoch, draw) for epoch in range(1, points + 1)],
        steps=40 * points,
        seconds=draw.uniform(10, 100),
        examples_per_second=draw.uniform(100, 1000),
        memory_gb=0.5,
        code=trial_code(trial.to_json()),
        provenance=PROVENANCE,
    )


# fmt: off
PROVENANCE = {
    "host": "box", "device": "a processor", "threads": 1, "python": "3.12.1", "commit": "0" * 12,
    "libraries": {"torch": "2.9.0", "torchvision": "0.24", "numpy": "2.1", "torchtext": "0.6.0"},
}
# fmt: on


def _point(epoch: int, draw: random.Random) -> dict[str, float]:
    names = ("val_accuracy", "val_loss", "test_accuracy", "test_loss", "train_loss", "lr")
    return {"epoch": epoch, "step": 40 * epoch, **{name: draw.uniform(1, 90) for name in names}}
