"""A kind of figure is one file: it registers itself, is checked, drawn, and shown on the page."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.report.drawing import encode
from nos_repro.report.figures.base import FIGURES, draw, figure_of
from nos_repro.report.pages.render import render
from nos_repro.report.pages.study_page import study_page
from tests.experiments.helpers import digits_study
from tests.report.pages.made_up import found, made_up_study
from tests.report.records import accuracy

BARS = '''
"""Bars of the rows' last values."""

from dataclasses import dataclass

from nos_repro.errors import ConfigError
from nos_repro.report.figures.base import FIGURES, FigureSettings, StudyFigure
from nos_repro.report.pages.charts import Chart, Variant, layout


@dataclass(frozen=True)
class Settings(FigureSettings):
    column: str = "final_test"

    def __post_init__(self):
        if not self.column.startswith("final"):
            raise ConfigError(f"figure.column must be a last value, got {self.column!r}")


@FIGURES.register("bars")
class Bars(StudyFigure):
    Settings = Settings
    heading = "Last values"

    def heights(self, rows):
        return [row.number(self.settings.column).mean for row in rows]

    def draw(self, canvas, rows):
        canvas.add_subplot().bar([row.name for row in rows], self.heights(rows))

    def caption(self, rows):
        return f"Bars of {self.settings.column}."

    def chart(self, rows, lines):
        bars = {"type": "bar", "x": [line.name for line in lines], "y": self.heights(rows)}
        return Chart("bars", "The rows' last values", [Variant([], [bars], layout("", "value"))])
'''


@pytest.fixture
def bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module outside the suite that registers a figure."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "my_bars.py").write_text(BARS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(FIGURES, "_entries", dict(FIGURES._entries))
    yield "plots.my_bars"
    for name in ("plots.my_bars", "plots"):
        sys.modules.pop(name, None)


def config(folder: Path, **figure: Any) -> Path:
    path = folder / "mine.yaml"
    study = {
        "study": "mine",
        "source": "ours",
        "claim": "nothing",
        "task": {"name": "rosenbrock"},
        "training": {"epochs": 2},
        "sweep": {"lr": [0.001]},
        "columns": {"final_val": "loss"},
        "rows": {"SGD": {"optimizer": "sgd"}},
        "figure": figure,
        "scales": {"paper": {}},
    }
    path.write_text(json.dumps(study))
    return path


def test_a_figure_from_outside_is_drawn_like_one_that_ships(bars: str, tmp_path: Path) -> None:
    study = dataclasses.replace(digits_study(), figure={"kind": bars})
    rows = found(tmp_path, study, lambda t: accuracy(1.0, 2.0)).rows
    figure = draw(study, rows)
    assert figure is not None
    assert len(figure.axes[0].patches) == len(rows)
    svg = encode(figure, "svg").decode()
    assert "Bars of final_test." in svg
    assert f"scale {study.scale}" in svg


def test_a_figure_with_a_chart_has_its_own_section_on_the_page(bars: str, tmp_path: Path) -> None:
    study = dataclasses.replace(made_up_study(), figure={"kind": bars})
    page = study_page(found(tmp_path, study, lambda t: accuracy(1.0, 2.0)), "mine")
    assert page.charts[0].name == "figure"
    text = render(page).decode()
    assert "<h3>Last values</h3>" in text
    assert text.count(f"the figure of {study.study}") == 1


# fmt: off
WRONG = [
    ({"kind": "curvs"},                        ["unknown figure 'curvs'", "mean 'curves'"]),
    ({"kind": "no_such.module"},               ["figure.kind: no Python module 'no_such.module'"]),
    ({"kind": 3},                              ["figure.kind: expected a name"]),
    ({"kind": "curves", "metrik": "val_loss"}, ["figure.metrik", "did you mean 'metric'"]),
    ({"kind": "rosenbrock", "metric": "x"},    ["figure.metric", "unknown key"]),
    ({"rows": "SGD"},                          ["figure.rows: expected a list"]),
    ({"rows": ["SDG"]},                        ["figure.rows 'SDG'", "did you mean 'SGD'"]),
]
# fmt: on


@pytest.mark.parametrize(("figure", "words"), WRONG)
@pytest.mark.parametrize("verb", ["run", "report", "status", "verdicts", "verify"])
def test_a_wrong_figure_is_refused_by_every_verb_before_anything_runs(
    verb: str,
    figure: dict[str, Any],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, results = config(tmp_path, **figure), tmp_path / "results"
    assert main([verb, str(path), "--results", str(results)]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    for word in words:
        assert word in said
    assert not results.exists()


def test_a_figures_own_check_of_its_options_is_reported(bars: str) -> None:
    study = dataclasses.replace(digits_study(), figure={"kind": bars, "column": "best_test"})
    with pytest.raises(ConfigError, match="must be a last value"):
        figure_of(study)


def test_a_figure_without_its_contract_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_a_figure").mkdir()
    (tmp_path / "half_a_figure" / "drawn.py").write_text(
        "from nos_repro.report.figures.base import StudyFigure\n"
        "class Half(StudyFigure):\n"
        "    def caption(self, rows): return ''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    study = dataclasses.replace(digits_study(), figure={"kind": "half_a_figure.drawn"})
    with pytest.raises(ConfigError, match=r"Half lacks draw\(self, canvas: Figure"):
        figure_of(study)


@pytest.mark.parametrize("name", FIGURES.names())
def test_every_figure_that_ships_draws_a_study_without_records(name: str) -> None:
    study = dataclasses.replace(digits_study(), figure={"kind": name})
    figure = figure_of(study)
    assert figure is not None
    assert figure.caption([])
    assert draw(study, []) is not None
