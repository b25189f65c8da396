"""How the scales of a study order its rows, beside the paper's numbers and our longest runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from nos_repro.cli import main
from nos_repro.experiments.load import load_study
from nos_repro.experiments.trial import Trial
from tests.report.records import accuracy, filled_store

OPTIMIZERS = ["sgd", "momentum", "adam", "rmsprop-tf", "powersign", "addsign", "adam-tf"]
PRINTED = [95.4, 95.2, 93.9, 93.6, 95.5, 95.3, 91.0]
MEASURED = {
    "quick": [50.0, 61.0, 55.0, 58.0, 63.0, 57.0, 40.0],
    "long": [70.0, 71.0, 69.0, 68.0, 74.0, 73.0, 60.0],
}
SECONDS = {"quick": 36.0, "long": 360.0}
STUDY: dict[str, Any] = {
    "study": "mine",
    "source": "002 Table 0",
    "claim": "small scales are like large ones",
    "task": {"name": "mlp", "data": "digits", "train_images": 100},
    "training": {"epochs": 1},
    "sweep": {"lr": [0.1]},
    "selection": {"repeats": 2},
    "columns": {"best_test": "Best Test"},
    "rows": {
        name: {"optimizer": name, "paper": {"best_test": value}}
        for name, value in zip(OPTIMIZERS, PRINTED, strict=True)
    },
    "scales": {"quick": {}, "long": {"training": {"epochs": 2}}, "smoke": {}},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A study with records at two of its scales."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    for scale, measured in MEASURED.items():
        worth = dict(zip(OPTIMIZERS, measured, strict=True))

        def ending(trial: Trial, worth: dict[str, float] = worth, scale: str = scale) -> Any:
            return {**accuracy(worth[trial.optimizer]), "seconds": SECONDS[scale]}

        study = load_study(path, scale=scale)
        filled_store(study, tmp_path / "results", ending)
    return path


def tau(xs: list[float], ys: list[float]) -> float:
    return float(stats.kendalltau(xs, ys).statistic)


def test_each_scale_is_compared_with_the_paper_and_with_the_longest_runs(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", str(config), "--across", "--results", str(config.parent / "results")]
    assert main([*words, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["study"], found["column"]) == ("mine", "best_test")
    quick, long = found["scales"]
    assert (quick["scale"], long["scale"]) == ("quick", "long")
    assert quick["paper"]["value"] == pytest.approx(tau(MEASURED["quick"], PRINTED))
    assert long["paper"]["value"] == pytest.approx(tau(MEASURED["long"], PRINTED))
    assert quick["dearest"]["value"] == pytest.approx(tau(MEASURED["quick"], MEASURED["long"]))
    assert (quick["is_dearest"], long["is_dearest"], long["dearest"]) == (False, True, None)
    assert (quick["rows"], quick["seeds"]) == (7, 2)
    assert quick["hours_of_a_run"] == pytest.approx(0.01)
    assert quick["core_hours"] == pytest.approx(7 * 3 * 0.01)  # a sweep of one rate, two repeats

    assert main(words) == 0
    text = capsys.readouterr().out
    assert f"{tau(MEASURED['quick'], PRINTED):.2f} [" in text
    assert "MLP-32, 2 epochs" in text
    assert "this one" in text


def test_it_is_written_beside_the_scales(config: Path) -> None:
    results = config.parent / "results"
    assert main(["report", "--all", str(config), "--write", "--results", str(results)]) == 0
    text = (results / "mine" / "scales.md").read_text(encoding="utf-8")
    assert "| quick | MLP-32, 1 epoch" in text
    assert "| long | MLP-32, 2 epochs" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table2", "--scale", "small"], "leave out --scale"),
        (["table2", "seed=1"], "leave out overrides"),
        (["search"], "--across is for a study; search is none"),
    ],
)
def test_what_is_not_about_all_scales_of_a_study_is_one_error(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *words, "--across"]) == 2
    assert said in capsys.readouterr().err
