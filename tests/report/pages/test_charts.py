"""The charts: Plotly's own library accepts them, and no name breaks out of them."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from nos_repro.report.curve import COLOURS, curve
from nos_repro.report.pages.charts import Chart, lines_of, script_json, short, shown
from nos_repro.report.pages.curve_chart import curve_chart, row_lines
from nos_repro.report.pages.search_chart import search_chart
from nos_repro.report.pages.study_page import study_page
from nos_repro.report.pages.sweep_chart import sweep_chart
from tests.conftest import ROOT
from tests.report.pages.made_up import HOSTILE, found, made_up_study
from tests.report.searches import Folder


def valid(chart: Chart) -> None:
    import plotly.graph_objects as go

    assert chart.variants
    for variant in chart.variants:
        figure = go.Figure({"data": variant.data, "layout": variant.layout})
        assert len(figure.data) == len(variant.data)
        assert len(variant.keys) == len(chart.controls)


@pytest.mark.parametrize("names", [("SGD", "PowerSign", "AddSign"), HOSTILE])
def test_plotly_itself_accepts_every_chart_of_a_study(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    page = study_page(found(tmp_path, made_up_study(names)))
    assert [chart.name for chart in page.charts] == ["curves", "sweeps", "targets", "profile"]
    for chart in page.charts:
        valid(chart)


def test_plotly_itself_accepts_a_search(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.fill(60, lambda source, number, rule: ("healthy", source.random()))
    folder.named("baseline", "Adam", "adam", reward=0.4)
    chart = search_chart(folder.history())
    assert chart is not None
    valid(chart)


def test_a_curve_is_that_of_the_figure(tmp_path: Path) -> None:
    known = found(tmp_path)
    chart = curve_chart(known.study, known.rows, row_lines(known.study, known.rows))
    assert chart is not None
    first = chart.variants[0]
    assert first.keys == ["test_accuracy"]
    bands, lines = first.data[:3], first.data[3:]
    for outcome, trace, band, colour in zip(known.rows, lines, bands, COLOURS, strict=False):
        drawn = curve(outcome.counting, "test_accuracy")
        assert drawn is not None
        assert trace["y"] == pytest.approx(list(drawn.mean), rel=1e-5)
        assert trace["line"]["color"] == colour
        assert band["y"][:4] == pytest.approx(list(drawn.mean + drawn.std), rel=1e-5)
        assert band["y"][4:] == pytest.approx(list((drawn.mean - drawn.std)[::-1]), rel=1e-5)


def test_every_metric_can_be_chosen_the_figures_first(tmp_path: Path) -> None:
    page = study_page(found(tmp_path))
    assert page.curves is not None
    keys = [key for key, _ in page.curves.controls[0].options]
    assert keys == ["test_accuracy", "val_accuracy"]


def test_rows_that_the_figure_leaves_out_are_hidden_and_take_no_colour_from_it() -> None:
    lines = lines_of(["a", "b", "c"], ["b", "c"])
    assert [line.hidden for line in lines] == [True, False, False]
    assert [line.colour for line in lines] == [COLOURS[2], COLOURS[0], COLOURS[1]]


def test_a_sweep_marks_the_choice_and_shows_what_was_lost_at_the_bottom(tmp_path: Path) -> None:
    known = found(tmp_path)
    chart = sweep_chart(known.study, known.rows, row_lines(known.study, known.rows))
    assert chart is not None
    scores, lost = chart.variants[0].data[0], chart.variants[0].data[1]
    assert scores["x"] == [0.01, 0.1]
    assert scores["marker"]["symbol"] == ["circle", "star"]
    assert lost["y"] == ["failed"]
    assert chart.variants[0].data[3]["y"] == ["diverged"]


def test_rows_that_differ_in_another_swept_setting_are_lines_of_their_own(tmp_path: Path) -> None:
    study = dataclasses.replace(
        made_up_study(), sweep={"lr": [0.01, 0.1], "weight_decay": [0.0, 1e-4]}
    )
    known = found(tmp_path, study)
    chart = sweep_chart(study, known.rows, row_lines(study, known.rows))
    assert chart is not None
    assert len(chart.variants[0].data) == 2 * len(study.rows)


@pytest.mark.parametrize("text", [*HOSTILE, "</script><script>", "<!--", "\u2028", "]]>", "&amp;"])
def test_json_in_a_script_reads_back_and_cannot_leave_it(text: str) -> None:
    written = script_json({text: [text]})
    assert json.loads(written) == {text: [text]}
    assert not {"<", ">", "&", "\u2028"} & set(written)


def test_a_name_is_text_in_plotlys_markup() -> None:
    assert shown("<b>%{y}</b>") == "&lt;b&gt;%&#123;y}&lt;/b&gt;"


def test_numbers_that_are_none_are_null() -> None:
    assert short([1 / 3, math.nan, math.inf]) == [0.333333, None, None]


def test_every_template_lets_jinja_escape_what_it_prints() -> None:
    for path in (ROOT / "nos_repro/report/pages/templates").glob("*.html"):
        text = path.read_text("utf-8")
        assert "|safe" not in text
        assert "autoescape" not in text
