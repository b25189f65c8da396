"""Verdicts on cells: the interval against scipy's, the rule's error rates, every case."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from scipy import stats

from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Row, Selection, Study
from nos_repro.experiments.selection import SampleMean, outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.report.documents.base import schema
from nos_repro.report.documents.study import verdict_data, verdicts_document
from nos_repro.report.study import protocol
from nos_repro.report.study.precision import precision_notes, precision_tests
from nos_repro.report.study.protocol import is_the_papers, settings_of
from nos_repro.report.study.table import study_table
from nos_repro.report.study.verdict import (
    VERDICTS,
    CellVerdict,
    PrintedNumber,
    classify,
    half_width,
    judge_study,
    more_seeds,
)
from nos_repro.report.study.verdict_table import verdict_table
from nos_repro.tasks.facts.base import PRECISION, SPEED, settings_that_change
from nos_repro.tasks.registry import describe
from tests.experiments.helpers import digits_study
from tests.report.records import PROVENANCE, Ending, accuracy, filled_store

DRAWS = 40_000
TOLERANCE = 0.5
WITHIN = ("reproduced", "within tolerance")


def test_the_interval_is_students_over_both_sides_runs() -> None:
    for n, runs, std in ((5, 5, 0.2), (3, 1, 1.7), (40, 5, 0.01)):
        scale = std * np.sqrt(1 / n + 1 / runs)
        assert half_width(std, n, runs) == pytest.approx(stats.t.ppf(0.975, n - 1) * scale)
    assert half_width(0.0, 4, 5, rounding=0.05) == pytest.approx(0.05)


def shares(truth: float, n: int, runs: int, std: float, seed: int = 1) -> dict[str, float]:
    """How often the rule says what, where ours is truly ``truth`` above the paper's mean."""
    source = np.random.default_rng(seed)
    ours = source.normal(truth, std, (DRAWS, n))
    paper = np.round(source.normal(0, std, (DRAWS, runs)).mean(axis=1), 1)
    half = ours.std(axis=1, ddof=1) * half_width(1.0, n, runs) + 0.05
    difference = ours.mean(axis=1) - paper
    ends = zip((difference - half).tolist(), (difference + half).tolist(), strict=True)
    said = Counter(classify(low, high, TOLERANCE) for low, high in ends)
    return {kind: said[kind] / DRAWS for kind in (*WITHIN, "differs", "inconclusive")}


@pytest.mark.parametrize(("n", "runs"), [(2, 5), (3, 1), (5, 5), (20, 5), (10, 1)])
@pytest.mark.parametrize("std", [0.05, 0.2, 0.6])
def test_at_most_one_in_forty_is_called_the_wrong_side_of_the_tolerance(
    n: int, runs: int, std: float
) -> None:
    noise = 4 * np.sqrt(0.025 * 0.975 / DRAWS)
    edge = shares(TOLERANCE, n, runs, std)
    assert edge["differs"] <= 0.025 + noise
    assert edge["reproduced"] + edge["within tolerance"] <= 0.025 + noise
    assert shares(0.0, n, runs, std)["differs"] <= 0.025 + noise
    far = shares(2 * TOLERANCE, n, runs, std)
    assert far["reproduced"] + far["within tolerance"] <= 0.025 + noise


def test_enough_seeds_decide_and_too_few_do_not() -> None:
    assert shares(0.0, 10, 5, 0.2)["reproduced"] > 0.85
    assert shares(1.5, 10, 5, 0.2)["differs"] > 0.99
    assert shares(0.25, 200, 200, 0.2)["within tolerance"] > 0.95
    assert shares(0.0, 2, 5, 0.2)["inconclusive"] > 0.5


def test_the_seeds_that_would_decide_are_the_fewest_that_do() -> None:
    printed = PrintedNumber(95.4, runs=5, rounding=0.05)
    number = SampleMean(95.2, 0.2, 4)
    more = more_seeds(number, printed, TOLERANCE)
    assert more is not None
    for extra in range(1, more + 1):
        n = number.n + extra
        scale = number.std * np.sqrt(1 / n + 1 / 5)
        high = abs(number.mean - printed.value) + stats.t.ppf(0.975, n - 1) * scale + 0.05
        assert (high <= TOLERANCE) == (extra == more)


def test_no_number_of_seeds_mends_a_paper_that_ran_once() -> None:
    assert more_seeds(SampleMean(95.4, 0.4, 5), PrintedNumber(95.4, runs=1), TOLERANCE) is None


def paper_study(**selection: Any) -> Study:
    rows = {"PowerSign": Row("powersign", paper={"best_test": 60.0})}
    study = digits_study(rows, selection=Selection(**selection), scale="paper")
    protocol = {"selection": {"repeats": 5}}
    settings = load_like(study, protocol)
    return dataclasses.replace(study, sweep={"lr": [0.01, 0.03, 0.1]}, paper_protocol=settings)


def load_like(study: Study, changes: dict[str, Any]) -> dict[str, Any]:
    """The study's own settings as those of its scale paper, but for ``changes``."""
    own = settings_of(dataclasses.replace(study, sweep={"lr": [0.01, 0.03, 0.1]}))
    return {**own, "selection": {**own["selection"], **changes["selection"]}}


DIVERGED: dict[str, Any] = {"status": "diverged", "metrics": [], "reason": "nan"}
FAILED: dict[str, Any] = {"status": "failed", "metrics": [], "reason": "a bug"}


def at(*values: float) -> Ending:
    """Test accuracies of the repeats, by seed from 1."""
    return lambda trial: accuracy(values[trial.seed - 1] + 1 if trial.seed else 50 * trial.lr + 40)


def judged(study: Study, results: Path, ending: Ending) -> CellVerdict:
    (cell,) = judge_study(study, outcomes(study, filled_store(study, results, ending)))
    return cell


CASES: list[tuple[str, Ending]] = [
    ("reproduced", at(60.0, 60.1, 59.9, 60.05)),
    ("within tolerance", at(60.2, 60.21, 60.2, 60.21)),
    ("differs", at(63.0, 63.1, 62.9, 63.0)),
    ("inconclusive", at(60.0, 61.0, 59.0, 60.4)),
    ("diverged", lambda t: DIVERGED if t.seed == 2 else at(*[60.0] * 4)(t)),
    ("diverged", lambda t: DIVERGED),
    ("not run", lambda t: None),
    ("not run", lambda t: None if t.seed == 4 else at(*[60.0] * 4)(t)),
    ("not run", lambda t: FAILED if t.seed == 4 else at(*[60.0] * 4)(t)),
]


@pytest.mark.parametrize(("verdict", "ending"), CASES)
def test_a_cell_gets_the_verdict(verdict: str, ending: Ending, tmp_path: Path) -> None:
    assert judged(paper_study(repeats=4), tmp_path, ending).verdict == verdict


def test_a_verdict_carries_the_place_our_interval_and_the_difference(tmp_path: Path) -> None:
    values = (60.0, 61.0, 59.0, 60.4)
    cell = judged(paper_study(repeats=4), tmp_path, at(*values))
    interval = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert cell.interval is not None
    assert (cell.interval.low, cell.interval.high) == pytest.approx(interval)
    assert cell.difference == pytest.approx(0.1)
    assert cell.place == "002 Table 0, row PowerSign, Best Test"
    assert cell.more_seeds is None or f"{cell.more_seeds} more seed" in cell.reason


def test_one_run_is_inconclusive_and_asks_for_fresh_seeds(tmp_path: Path) -> None:
    cell = judged(paper_study(repeats=0), tmp_path, lambda t: accuracy(61.0))
    assert (cell.verdict, cell.more_seeds) == ("inconclusive", 2)


@pytest.mark.parametrize("scale", ["small", "smoke"])
def test_no_cell_at_another_scale_is_judged_however_near_it_lies(
    scale: str, tmp_path: Path
) -> None:
    study = dataclasses.replace(paper_study(repeats=4), scale=scale)
    assert judged(study, tmp_path, at(*[60.0, 60.1] * 2)).verdict == "not comparable (scale)"


def test_a_changed_setting_takes_the_verdict_away_but_more_seeds_do_not(root: Path) -> None:
    def verdicts(*overrides: str) -> set[str]:
        study = load_study(root / "configs/table2.yaml", overrides=overrides)
        return {
            c.verdict
            for c in judge_study(study, outcomes(study, Store(root / "nowhere", "table2", "paper")))
        }

    assert verdicts() == {"not run"}
    assert verdicts("selection.repeats=9") == {"not run"}
    assert verdicts("schedule=constant") == {"not comparable (scale)", "not run"}
    assert verdicts("training.epochs=10") == {"not comparable (scale)"}


@pytest.mark.parametrize("override", [
    "task.channels_last=true", "task.precision=bf16", "device.tf32=true", "device.resident=false",
])  # fmt: skip
def test_what_changes_speed_or_precision_takes_no_verdict_away(override: str, root: Path) -> None:
    study = load_study(root / "configs/table2.yaml", overrides=[override])
    cells = judge_study(study, outcomes(study, Store(root / "nowhere", "table2", "paper")))
    assert {cell.verdict for cell in cells} == {"not run"}
    assert is_the_papers(study)


@pytest.mark.parametrize("study", ["table2", "table3", "table4", "table5", "icml_figure5"])
def test_each_model_declares_what_changes_its_speed_alone(study: str, root: Path) -> None:
    loaded = load_study(root / f"configs/{study}.yaml")
    speed = settings_that_change(SPEED, describe(loaded.task["name"]).Settings)
    known = {"channels_last", "fused", "replicas_at_once"}
    assert set(speed) == known & loaded.task.keys()
    assert settings_that_change(PRECISION, describe(loaded.task["name"]).Settings) == ["precision"]


def in_precision(study: Study, precision: str) -> Study:
    return dataclasses.replace(study, task={**study.task, "precision": precision})


def test_the_precision_is_said_beside_the_verdict(tmp_path: Path) -> None:
    study = paper_study(repeats=4)
    cell = judged(in_precision(study, "bf16"), tmp_path, at(60.0, 60.1, 59.9, 60.05))
    assert cell.verdict == "reproduced"
    assert cell.reason.endswith("within ±0.50; in bf16, the paper's scale in float32")


def test_runs_with_tf32_are_counted_beside_the_verdict(tmp_path: Path) -> None:
    def ending(trial: Trial) -> dict[str, Any] | None:
        settings = {"tf32": trial.seed in (1, 3)}
        known = {"provenance": {**PROVENANCE, "device_settings": settings}}
        return {**(at(60.0, 60.1, 59.9, 60.05)(trial) or {}), **known}

    study = paper_study(repeats=4)
    cell = judged(study, tmp_path, ending)
    assert cell.reason.endswith("; 2 of 4 runs with products in TF32")
    assert verdict_data(cell)["precision"] == protocol.Precision("float32", "float32", tf32=2)
    store = Store(tmp_path, study.study, study.scale)
    assert "2 of 4 runs with products in TF32" in study_table(study, outcomes(study, store)).text()


# fmt: off
DIFFERENCES = [
    # bf16 less float32, by seed      verdict
    ([0.02, -0.01, 0.03, 0.0],        "equivalent"),
    ([0.31, 0.30, 0.29, 0.30],        "equivalent"),
    ([1.02, 0.99, 1.03, 1.0],         "different"),
    ([0.9, -0.8, 0.5, 0.2],           "undecided"),
]
# fmt: on


@pytest.mark.parametrize(("differences", "verdict"), DIFFERENCES)
def test_two_precisions_are_tested_for_equivalence_seed_by_seed(
    differences: list[float], verdict: str, tmp_path: Path
) -> None:
    values = [60.0, 61.0, 59.0, 60.4]  # the spread over seeds is in both, and drops out
    study = paper_study(repeats=4)
    other = in_precision(study, "bf16")
    filled_store(study, tmp_path, at(*values))
    changed = [a + b for a, b in zip(values, differences, strict=True)]
    store = filled_store(other, tmp_path, at(*changed))
    (test,) = precision_tests(other, outcomes(other, store), store)
    interval = stats.t.interval(0.95, 3, np.mean(differences), stats.sem(differences))
    found = test.comparison
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx(interval)
    assert test.verdict == verdict
    (note,) = precision_notes(other, outcomes(other, store), store)
    assert note.startswith("bf16 less float32, PowerSign, Best Test: ")
    assert note.endswith(f"over 4 seeds: {verdict} (±0.50).")
    assert precision_notes(study, outcomes(study, store), store) == []
    document = verdicts_document(other, judge_study(other, outcomes(other, store)), [test])
    Draft202012Validator(schema()).validate(document)
    (said,) = document["precision_tests"]
    assert (said["row"], said["column"], said["verdict"]) == ("PowerSign", "best_test", verdict)
    assert said["difference_interval"] == pytest.approx(interval)
    assert (said["tolerance"], said["seeds"]) == (0.5, 4)
    (cell,) = document["verdicts"]
    assert cell["precision"] == {"ours": "bf16", "paper": "float32", "tf32": 0}


def test_without_runs_in_both_precisions_nothing_is_tested(tmp_path: Path) -> None:
    study = in_precision(paper_study(repeats=2), "bf16")
    store = filled_store(study, tmp_path, at(60.0, 61.0))
    notes = precision_notes(study, outcomes(study, store), store)
    assert notes == [
        "bf16 less float32: not tested, no point has runs with the same seeds in both."
    ]


def test_names_with_markup_are_text_in_every_form_of_the_table(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>|$(reboot)`\x1b[31m% & _"
    study = paper_study(repeats=4)
    study = dataclasses.replace(
        study, rows={name: study.rows["PowerSign"]},
        paper_protocol={},
    )  # fmt: skip
    cells = judge_study(study, outcomes(study, filled_store(study, tmp_path, at(*[60.0] * 4))))
    table = verdict_table(study, cells)
    assert "<script>" not in table.markdown()
    assert "\x1b" not in table.text()
    assert r"\$(reboot)" in table.latex()


def test_every_verdict_is_one_of_the_list(tmp_path: Path) -> None:
    assert {verdict for verdict, _ in CASES} | {"not comparable (scale)"} == set(VERDICTS)
