"""A study of made-up records that has everything a page shows: bands, a divergence, a failure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from nos_repro.experiments.schema import Row, Selection, Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.trial import Training, Trial
from nos_repro.report.collection import FoundStudy
from nos_repro.report.study.verdict import judge_study
from tests.experiments.helpers import digits_study
from tests.report.records import Ending, accuracy, filled_store

HOSTILE = (
    "<script>alert(1)</script>",
    "\"&'<img src=x onerror=alert(2)>",
    "$x^2$ \\frac{%{y}}{2} </title>",
)
RATES = [0.01, 0.1, 1.0]


def made_up_study(names: tuple[str, ...] = ("SGD", "PowerSign", "AddSign")) -> Study:
    optimizers = ("sgd", "powersign", "addsign")
    rows = {
        name: Row(optimizer, paper={"best_test": 90.0 + n})
        for n, (name, optimizer) in enumerate(zip(names, optimizers, strict=True))
    }
    study = digits_study(
        rows,
        selection=Selection(repeats=2),
        training=Training(epochs=4),
        sweep={"lr": RATES},
    )
    return dataclasses.replace(study, figure={"metric": "test_accuracy"})


def ending(trial: Trial) -> dict[str, Any]:
    """The rate 1 diverges, or fails for SGD; the others end higher the larger the rate."""
    if trial.lr == 1.0:
        kind = "failed" if trial.optimizer == "sgd" else "diverged"
        return {"status": kind, "metrics": [], "reason": "a <b>bug</b> & more"}
    height = {"sgd": 60, "powersign": 70, "addsign": 65}[trial.optimizer]
    return accuracy(*(height - 20 / (n + 1) + 10 * trial.lr + trial.seed for n in range(4)))


def found(results: Path, study: Study | None = None, ends: Ending = ending) -> FoundStudy:
    """The study and its records under ``results``."""
    study = study or made_up_study()
    store = filled_store(study, results, ends)
    rows = outcomes(study, store)
    return FoundStudy(study, rows, store, judge_study(study, rows))
