"""What a table says of records, with numpy for the numbers."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import stats

from nos_repro.experiments.load import load_study, task_section
from nos_repro.experiments.schema import Row, Selection, Study
from nos_repro.experiments.selection import SampleMean, outcomes
from nos_repro.experiments.settings_file import is_search
from nos_repro.experiments.trial import Trial
from nos_repro.optim.lookup import optimizer_names
from nos_repro.report.layout import ReportTable
from nos_repro.report.study.rows import counted_values, values_per_parameter
from nos_repro.report.study.table import show, study_table
from tests.experiments.helpers import digits_study
from tests.report.records import Ending, accuracy, filled_store

DIVERGED: dict[str, Any] = {"status": "diverged", "metrics": [], "reason": "nan"}
FAILED: dict[str, Any] = {"status": "failed", "metrics": [], "reason": "a bug"}


def made(study: Study, results: Path, ending: Ending) -> ReportTable:
    return study_table(study, outcomes(study, filled_store(study, results, ending)))


def cells(table: ReportTable, row: int = 0) -> list[str]:
    return [cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in table.rows[row]]


def one_row(**selection: Any) -> Study:
    rows = {"PowerSign": Row("powersign", paper={"best_test": 93.0})}
    study = digits_study(rows, selection=Selection(**selection))
    return dataclasses.replace(study, sweep={"lr": [0.01, 0.03, 0.1]})


def by_rate(trial: Trial) -> float:
    return {0.01: 40.0, 0.03: 60.0, 0.1: 50.0}[trial.lr]


def test_a_number_is_numpys_mean_and_sample_deviation_over_the_repeats(tmp_path: Path) -> None:
    values = {1: 61.0, 2: 63.5, 3: 62.2, 4: 60.1}
    study = one_row(repeats=4)
    table = made(study, tmp_path, lambda t: accuracy(values.get(t.seed, by_rate(t))))
    tests = np.array(list(values.values())) - 1
    expected = f"{tests.mean():.2f} ± {tests.std(ddof=1):.2f} (4)"
    assert cells(table) == ["PowerSign", "lr=0.03", expected, "93.0", expected]


def test_the_test_metric_is_that_of_the_best_validation(tmp_path: Path) -> None:
    table = made(one_row(), tmp_path, lambda t: accuracy(10.0, by_rate(t), 30.0))
    assert cells(table)[2] == "59.00 (1)"
    assert cells(table)[4] == "29.00 (1)"


HOLES: list[tuple[str, Ending, str, str]] = [
    ("nothing", lambda t: None, "-", "not run yet"),
    ("a part of the sweep", lambda t: accuracy(5.0) if t.lr < 0.1 else None, "-", "2/3 sweep"),
    ("the sweep", lambda t: None if t.seed else accuracy(by_rate(t)), "lr=0.03",
     "not run yet (0/2 repeats)"),
    ("one repeat", lambda t: None if t.seed > 1 else accuracy(by_rate(t)), "lr=0.03",
     "59.00 (1) (1/2 repeats)"),
    ("divergences alone", lambda t: DIVERGED, "-", "diverged"),
    ("failures alone", lambda t: FAILED, "-", "failed"),
    ("both", lambda t: DIVERGED if t.lr < 0.1 else FAILED, "-",
     "2 of 3 diverged, 1 of 3 failed"),
    ("a diverged repeat", lambda t: DIVERGED if t.seed == 2 else accuracy(by_rate(t)), "lr=0.03",
     "59.00 (1) (1 of 2 diverged)"),
    ("a failed repeat", lambda t: FAILED if t.seed == 2 else accuracy(by_rate(t)), "lr=0.03",
     "59.00 (1) (1 of 2 failed)"),
    ("diverged repeats", lambda t: DIVERGED if t.seed else accuracy(by_rate(t)), "lr=0.03",
     "2 of 2 diverged"),
    ("a diverged favourite", lambda t: DIVERGED if t.lr == 0.03 else accuracy(by_rate(t)), "lr=0.1",
     "49.00 ± 0.00 (2)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "chosen", "cell"), [h[1:] for h in HOLES], ids=[h[0] for h in HOLES]
)
def test_a_table_is_valid_with(ending: Ending, chosen: str, cell: str, tmp_path: Path) -> None:
    table = made(one_row(repeats=2), tmp_path, ending)
    assert cells(table) == ["PowerSign", chosen, cell, "93.0", cell]
    for text in (table.text(), table.markdown(), table.latex()):
        assert "nan" not in text.lower()


def test_a_value_the_paper_does_not_print_is_a_dash(tmp_path: Path) -> None:
    rows = {"a": Row("sgd", paper={"best_test": 93.0}), "b": Row("powersign")}
    table = made(digits_study(rows), tmp_path, lambda t: None)
    assert [row[3].text for row in table.rows] == ["93.0", "-"]
    assert [column.title for column in table.columns].count("row") == 1
    assert len(table.columns) == 5


def test_a_study_without_paper_values_has_no_paper_columns(tmp_path: Path) -> None:
    table = made(digits_study(), tmp_path, lambda t: None)
    assert len(table.columns) == 4
    assert any("prints no numbers" in note for note in table.notes)


def test_the_best_complete_row_is_marked_and_a_divergence_loses(tmp_path: Path) -> None:
    rows = {name: Row(name) for name in ("sgd", "momentum", "adam", "powersign")}
    values = {"sgd": 50.0, "momentum": 70.0, "adam": 60.0, "powersign": 60.0}

    def ending(trial: Trial) -> dict[str, Any] | None:
        if trial.optimizer == "momentum" and trial.seed == 2:
            return DIVERGED
        return accuracy(values[trial.optimizer])

    table = made(digits_study(rows), tmp_path, ending)
    assert [row[2].best for row in table.rows] == [False, False, True, True]
    assert table.text().count("59.00 ± 0.00 (2) *") == 4
    assert table.markdown().count("**59.00 ± 0.00 (2)**") == 4
    assert table.latex().count(r"\textbf{59.00 $\pm$ 0.00 (2)}") == 4


def test_the_least_loss_is_the_best(tmp_path: Path, root: Path) -> None:
    study = load_study(root / "configs/figure5_rosenbrock.yaml", scale="smoke")

    def ending(trial: Trial) -> dict[str, Any]:
        loss = 1e-9 if trial.optimizer == "adam-tf" else 1.0
        points = [{"epoch": 1, "step": 20, "val_loss": loss, "val_x": 1.0, "val_y": 1.0}]
        return {"metrics": points, "metric": "loss", "direction": "min"}

    table = made(study, tmp_path, ending)
    assert [row[0].text for row in table.rows if row[2].best] == ["Adam"]
    assert "1e-09 (1) *" in table.text()


def test_a_stale_number_carries_a_sign_and_a_footnote(tmp_path: Path) -> None:
    fresh = made(one_row(), tmp_path / "a", lambda t: accuracy(by_rate(t)))
    stale = made(one_row(), tmp_path / "b", lambda t: accuracy(by_rate(t)) | {"code": "0" * 12})
    assert "†" not in fresh.text()
    assert "59.00 (1) †" in stale.text()
    assert any(note.startswith("† stale") for note in stale.notes)
    assert r"\dag{}" in stale.latex()


def test_a_choice_at_the_edge_of_its_grid_is_a_warning_that_names_the_row(tmp_path: Path) -> None:
    table = made(one_row(), tmp_path, lambda t: accuracy(100 * t.lr + 1))
    assert table.rows[0][1].text == "lr=0.1"
    assert table.rows[0][1].signs == "‡"
    assert any("warning" in note and "PowerSign (lr=0.1)" in note for note in table.notes)


def test_a_failed_trial_of_the_sweep_is_reported(tmp_path: Path) -> None:
    table = made(one_row(), tmp_path, lambda t: FAILED if t.lr == 0.01 else accuracy(by_rate(t)))
    assert any("PowerSign: 1 of the sweep's 3 trials failed" in note for note in table.notes)


# fmt: off
NUMBERS = [
    (SampleMean(95.4, 0.123, 5),    "95.40 ± 0.12 (5)"),
    (SampleMean(95.4, 0.0, 1),      "95.40 (1)"),
    (SampleMean(4.72e-16, 0.0, 1),  "4.72e-16 (1)"),
    (SampleMean(0.0132, 0.001, 2),  "0.0132 ± 0.001 (2)"),
    (SampleMean(0.0, 0.0, 1),       "0.00 (1)"),
    (SampleMean(-12.5, 1.0, 2),     "-12.50 ± 1.00 (2)"),
    (SampleMean(12345.6, 7.0, 2),   "1.23e+04 ± 7 (2)"),
]
# fmt: on


@pytest.mark.parametrize(("number", "text"), NUMBERS)
def test_a_number_has_the_digits_that_suit_it(number: SampleMean, text: str) -> None:
    assert show(number).replace("\N{NO-BREAK SPACE}", " ") == text


def study_of(root: Path, scale: str, *overrides: str) -> Study:
    return load_study(root / "configs/table2.yaml", scale=scale, overrides=overrides)


def titles(study: Study, tmp_path: Path) -> list[str]:
    return [column.title for column in made(study, tmp_path, lambda t: None).columns]


def test_at_the_papers_scale_the_papers_numbers_need_no_label(root: Path, tmp_path: Path) -> None:
    assert titles(study_of(root, "paper"), tmp_path)[2:4] == ["Best Test", "paper"]


@pytest.mark.parametrize(
    ("scale", "overrides"), [("small", []), ("smoke", []), ("paper", ["task.width=2"])]
)
def test_at_another_scale_both_numbers_say_which_they_are(
    scale: str, overrides: list[str], root: Path, tmp_path: Path
) -> None:
    study = study_of(root, scale, *overrides)
    assert titles(study, tmp_path)[2:4] == [f"Best Test ({scale})", "paper (WRN-40-4, 300 epochs)"]
    text = " ".join(made(study, tmp_path, lambda t: None).text().split())
    assert "The paper: WRN-40-4, on cifar10" in text
    assert "not made at this scale" in text


def test_the_heading_says_what_was_trained(root: Path, tmp_path: Path) -> None:
    study = study_of(root, "small", "training.epochs=7", "task.train_images=10000")
    heading = made(study, tmp_path, lambda t: None).heading
    assert heading[0] == "table2 (002 Table 2), scale small"
    assert study.claim in heading[1]
    for words in ("WRN-10-1", "10,000 training images", "7 epochs"):
        assert words in heading[2]
    assert "300 epochs" in heading[3]


@pytest.mark.parametrize("scale", ["paper", "small", "smoke"])
def test_every_study_of_the_repository_has_a_table(scale: str, root: Path, tmp_path: Path) -> None:
    configs = [p for p in sorted((root / "configs").glob("*.yaml")) if not is_search(p)]
    assert configs
    for path in configs:
        if scale not in OmegaConf.load(path).scales:
            continue
        study = load_study(path, scale=scale)
        table = made(study, tmp_path, lambda t: None)
        lines = table.text().splitlines()
        assert max(map(len, lines)) <= 120, path.name
        assert len(table.rows) == len(study.rows)


def test_a_column_may_name_another_metric_with_its_own_direction(tmp_path: Path) -> None:
    columns = {"final_train_perplexity": "P", "final_test_loss": "L", "best_test_bleu": "B"}
    task = task_section({"name": "gnmt", "data": "numbers"})
    study = digits_study(selection=Selection(), task=task, columns=columns)

    def ending(trial: Trial) -> dict[str, Any]:
        good = trial.optimizer == "sgd"
        values = {"train_loss": 1.0 + good, "test_loss": 2.0 + good, "test_bleu": 20.0 + good}
        points = [{"epoch": 1, "step": 4, "val_perplexity": 9.0, **values}]
        return {"metrics": points, "metric": "perplexity", "direction": "min"}

    table = made(study, tmp_path, ending)
    assert cells(table)[2:] == [f"{math.e**2:.2f} (1)", "3.00 (1)", "21.00 (1)"]
    best = [[cell.best for cell in row[2:]] for row in table.rows]
    assert best == [[False, False, True], [True, True, False]]


def test_what_an_optimizer_keeps_is_counted_with_no_record(tmp_path: Path) -> None:
    rows = {"Adam": Row("adam", paper={"optimizer_state": 2}), "PowerSign": Row("powersign-ld"),
            "SGD": Row("sgd"), "Text": Row("rule: m * exp(v)")}  # fmt: skip
    study = digits_study(rows, columns={"optimizer_state": "Averages"})
    table = made(study, tmp_path, lambda t: None)
    assert [cells(table, row)[2:] for row in range(4)] == [
        ["2", "2"],
        ["1", "-"],
        ["0", "-"],
        ["2", "-"],
    ]


@pytest.mark.parametrize("name", [*optimizer_names(), "rule: adam * noise * gamma"])
def test_what_an_optimizer_is_said_to_keep_is_what_it_keeps_after_a_step(name: str) -> None:
    row = Row(name)
    assert values_per_parameter(row) == counted_values(row)


def test_what_an_optimizer_keeps_with_other_options_is_counted() -> None:
    assert values_per_parameter(Row("adam", options={"amsgrad": True})) == 3
    assert values_per_parameter(Row("torch.optim.SGD", options={"momentum": 0.9})) == 1
    assert values_per_parameter(Row("powersign", options={"beta": 0.5})) == 1


def test_a_small_scale_says_how_it_orders_the_rows_that_the_paper_has_numbers_of(
    tmp_path: Path,
) -> None:
    """scipy's tau-b; a row that diverges, and one that the paper leaves out, are not counted."""
    optimizers = ["sgd", "momentum", "adam", "rmsprop-tf", "powersign", "addsign", "adam-tf",
                  "powersign-cd"]  # fmt: skip
    printed = [95.4, 95.2, 93.9, 93.6, 95.4, 95.3, 91.0]
    measured = [60.0, 61.0, 55.0, 58.0, 63.0, 57.0, None, 50.0]
    rows = {
        name: Row(name, paper={"best_test": value} if value is not None else {})
        for name, value in zip(optimizers, [*printed, None], strict=True)
    }
    worth = dict(zip(optimizers, measured, strict=True))
    study = dataclasses.replace(
        digits_study(rows, selection=Selection(repeats=1)), sweep={"lr": [0.1]}
    )

    def ending(trial: Trial) -> dict[str, Any]:
        value = worth[trial.optimizer]
        return DIVERGED if value is None else accuracy(value)

    (note,) = [note for note in made(study, tmp_path, ending).notes if "Kendall" in note]
    expected = stats.kendalltau(printed[:6], measured[:6]).statistic
    assert "the order of these 6 rows and that of the paper's" in note
    assert f"a Kendall's tau of {expected:.2f} [" in note
    low, high = (float(number) for number in re.findall(r"\[(.*), (.*)\]", note)[0])
    assert -1 <= low < expected < high <= 1
    few = dataclasses.replace(study, rows={name: rows[name] for name in optimizers[:5]})
    assert not any("Kendall" in note for note in made(few, tmp_path / "few", ending).notes)
