"""Figures: their numbers against numpy, their files against an XML parser and themselves."""

import dataclasses
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from nos_repro.experiments.load import load_study
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Row, Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.report.drawing import encode
from nos_repro.report.figures.base import draw
from nos_repro.report.study.curve import curve
from tests.experiments.helpers import digits_study
from tests.report.records import accuracy, filled_store

DIVERGED: dict[str, Any] = {"status": "diverged", "metrics": []}


def run_of(values: list[float], best: int = 0) -> Record:
    points = [
        {"epoch": n, "val_accuracy": v + 99 * (n == best), "test_accuracy": v}
        for n, v in enumerate(values, 1)
    ]
    return Record("0", "finished", {}, "accuracy", "max", points, 1, 1.0, 1.0, 0.1, "")


def curves_study(rows: dict[str, Row]) -> Study:
    return dataclasses.replace(digits_study(rows), figure={"kind": "curves"})


def svg_texts(data: bytes) -> list[str]:
    return [
        "".join(node.itertext())
        for node in ElementTree.fromstring(data).iter()
        if node.tag.endswith("}text")
    ]


def test_a_curve_is_numpys_mean_and_deviation_over_the_seeds() -> None:
    values = np.random.default_rng(0).normal(size=(4, 7))
    line = curve([run_of(row.tolist()) for row in values], "test_accuracy")
    assert line is not None
    np.testing.assert_allclose(line.mean, values.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(line.std, values.std(axis=0, ddof=1), rtol=1e-15)
    assert line.epochs.tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_thinned_runs_are_averaged_at_points_that_all_have() -> None:
    values = np.random.default_rng(0).normal(size=(3, 450))
    runs = [run_of(row.tolist(), best=10 + n) for n, row in enumerate(values)]
    line = curve([run.thinned() for run in runs], "test_accuracy")
    assert line is not None
    picked = line.epochs.astype(int) - 1
    assert picked[-1] == 449
    assert len(picked) >= 90
    np.testing.assert_allclose(line.mean, values.mean(axis=0)[picked], rtol=1e-12)


def test_a_clone_draws_what_the_original_drew() -> None:
    run = run_of([float(n) for n in range(250)], best=77)
    assert run.thinned().thinned() == run.thinned()
    whole, thin = curve([run], "test_accuracy"), curve([run.thinned()], "test_accuracy")
    assert whole is not None
    assert thin is not None
    assert whole.mean.tolist() == thin.mean.tolist()


def test_runs_that_did_not_finish_make_no_curve() -> None:
    assert curve([], "test_accuracy") is None
    assert curve([run_of([1.0])], "test_loss") is None


def test_the_legend_names_every_row_and_says_what_is_missing(tmp_path: Path) -> None:
    rows = {
        "SGD": Row("sgd"),
        "cost $5_x": Row("adam"),
        "gone": Row("momentum"),
        "later": Row("powersign"),
    }

    def ending(trial: Trial) -> dict[str, Any] | None:
        if trial.optimizer == "momentum":
            return DIVERGED
        if trial.optimizer == "adam" and trial.seed == 2:
            return DIVERGED
        return None if trial.optimizer == "powersign" else accuracy(30.0, 40.0)

    study = curves_study(rows)
    figure = draw(study, outcomes(study, filled_store(study, tmp_path, ending)))
    assert figure is not None
    texts = svg_texts(encode(figure, "svg"))
    for words in ("SGD", "cost $5_x (1 of 2 runs)", "gone: diverged", "later: not run yet"):
        assert words in texts
    assert any("scale smoke" in text for text in texts)
    assert any("torch 2.9.0" in text for text in texts)


def test_a_figure_shows_the_rows_that_the_papers_own_shows(tmp_path: Path) -> None:
    rows = {name: Row("sgd", seed=n) for n, name in enumerate(("one", "two", "three"))}
    study = dataclasses.replace(curves_study(rows), figure={"rows": ["three", "one"]})
    store = filled_store(study, tmp_path, lambda t: accuracy(1.0, 2.0))
    figure = draw(study, outcomes(study, store))
    assert figure is not None
    texts = svg_texts(encode(figure, "svg"))
    assert {"one", "three"} <= set(texts)
    assert "two" not in texts
    assert any("trials" in text and "6 trials" not in text for text in texts), "of the shown alone"


@pytest.mark.parametrize("name", ["table1", "table2", "table6"])
def test_a_figure_of_six_rows_has_the_papers_four_baselines(name: str, root: Path) -> None:
    study = load_study(root / "configs" / f"{name}.yaml")
    assert study.figure is not None
    known = ("sgd", "momentum", "adam", "rmsprop-tf")
    assert [study.rows[row].optimizer for row in study.figure["rows"][:4]] == list(known)
    assert len(study.figure["rows"]) == 6


def test_a_figure_without_records_can_be_drawn(tmp_path: Path) -> None:
    study = curves_study({"SGD": Row("sgd")})
    figure = draw(study, outcomes(study, Store(tmp_path, "none", "smoke")))
    assert figure is not None
    assert "SGD: not run yet" in svg_texts(encode(figure, "svg"))


def test_a_study_without_a_figure_draws_none(tmp_path: Path) -> None:
    study = digits_study()
    assert draw(study, outcomes(study, Store(tmp_path, "none", "smoke"))) is None


def test_lines_of_many_rows_all_look_different(tmp_path: Path) -> None:
    study = curves_study({f"row {n}": Row("sgd", seed=100 * n) for n in range(32)})
    figure = draw(
        study, outcomes(study, filled_store(study, tmp_path, lambda t: accuracy(1.0, 2.0)))
    )
    assert figure is not None
    lines = figure.axes[0].get_lines()
    looks = {
        (line.get_color(), str(line.get_linestyle()), str(line._dash_pattern)) for line in lines
    }  # type: ignore[attr-defined]
    assert len(lines) == len(looks) == 32


def walk(trial: Trial) -> dict[str, Any]:
    if trial.optimizer == "sgd":
        return DIVERGED
    t = np.linspace(0, 1, 20)
    points = [
        {
            "epoch": n,
            "step": 20 * n,
            "val_loss": 1e-3,
            "val_x": float(-2 + 3 * s),
            "val_y": float(2 - s),
        }
        for n, s in enumerate(t, 1)
    ]
    return {"metrics": points, "metric": "loss", "direction": "min"}


@pytest.fixture
def rosenbrock(root: Path) -> Study:
    return load_study(root / "configs/figure5_rosenbrock.yaml", scale="smoke")


def test_rosenbrock_has_a_panel_per_optimizer_with_its_loss_and_rate(
    rosenbrock: Study, tmp_path: Path
) -> None:
    figure = draw(rosenbrock, outcomes(rosenbrock, filled_store(rosenbrock, tmp_path, walk)))
    assert figure is not None
    panels = {axes.get_title().split("\n")[0]: axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == list(rosenbrock.rows)
    assert panels["SGD"].get_title() == "SGD\ndiverged"
    assert panels["Momentum"].get_title() == "Momentum\nfinal loss 0.001, lr=0.0003"
    for axes in panels.values():
        assert (axes.get_xlim(), axes.get_ylim()) == ((-2, 2), (-1, 3))
        assert any(line.get_xydata().tolist() == [[1.0, 1.0]] for line in axes.get_lines())
    path = panels["Momentum"].get_lines()[0].get_xydata()
    assert path[0].tolist() == [-2.0, 2.0]
    assert math.isclose(path[-1][0], 1.0)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_records_give_the_same_bytes(kind: Any, rosenbrock: Study, tmp_path: Path) -> None:
    rows = outcomes(rosenbrock, filled_store(rosenbrock, tmp_path, walk))
    figure = draw(rosenbrock, rows)
    again = draw(rosenbrock, rows)
    assert figure is not None
    assert again is not None
    first = encode(figure, kind)
    assert first == encode(figure, kind) == encode(again, kind)
    assert b"<dc:date>" not in first
