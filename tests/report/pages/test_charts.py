"""The charts: Plotly's own library accepts them, and no name breaks out of them."""

import base64
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, outcomes
from nos_repro.experiments.store import Store
from nos_repro.report.pages.charts import Chart, lines_of, script_json, short, shown
from nos_repro.report.pages.curve_chart import curve_chart, row_lines
from nos_repro.report.pages.ranking import ranked
from nos_repro.report.pages.search_chart import search_chart
from nos_repro.report.pages.static_figure import study_picture
from nos_repro.report.pages.study_page import study_page
from nos_repro.report.pages.sweep_chart import sweep_chart
from nos_repro.report.study.curve import COLOURS, curve
from nos_repro.report.study.files import write_report
from tests.conftest import ROOT
from tests.report.pages.made_up import HOSTILE, found, made_up_study
from tests.report.records import accuracy
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
    page = study_page(found(tmp_path, made_up_study(names)), "tiny")
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


def test_a_long_search_draws_every_best_so_far_and_a_part_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nos_repro.report.pages.search_chart.MANY", 50)
    folder = Folder(tmp_path)
    folder.fill(220, lambda source, number, rule: ("healthy", source.random()))
    history = folder.history()
    chart = search_chart(history)
    assert chart is not None
    dots = [x for trace in chart.variants[0].data if trace["mode"] == "markers" for x in trace["x"]]
    best, highest = set(), -1.0
    for reward in history.rewards:
        if reward.reward > highest:
            best.add(reward.sample + 1)
            highest = reward.reward
    assert best | set(range(1, 221, 5)) == set(dots)
    assert f"{len(dots)} of the 220 dots are drawn" in chart.words[0]
    assert {trace["type"] for trace in chart.variants[0].data} == {"scatter"}


def test_a_curve_is_that_of_the_figure(tmp_path: Path) -> None:
    known = found(tmp_path)
    chart = curve_chart(known.study, known.rows, row_lines(known.study, known.rows))
    assert chart is not None
    first = chart.variants[0]
    assert first.keys == ["test_accuracy"]
    for outcome, trace in zip(known.rows, first.data, strict=True):
        drawn = curve(outcome.counting, "test_accuracy")
        assert drawn is not None
        assert trace["y"] == pytest.approx(list(drawn.mean), rel=1e-5)
        assert trace["customdata"] == pytest.approx(list(drawn.std), rel=1e-5)


def test_every_metric_can_be_chosen_the_figures_first(tmp_path: Path) -> None:
    page = study_page(found(tmp_path), "tiny")
    assert page.curves is not None
    keys = [key for key, _ in page.curves.controls[0].options]
    assert keys == ["test_accuracy", "val_accuracy"]


def test_the_best_rows_are_drawn_first_and_have_colours_of_their_own(tmp_path: Path) -> None:
    known = found(tmp_path)
    assert [n for n, _ in enumerate(known.rows)] == [0, 1, 2]
    assert ranked(known.study, known.rows) == [1, 2, 0]  # PowerSign, AddSign, SGD
    lines = row_lines(known.study, known.rows)
    assert [line.colour for line in lines] == [COLOURS[2], COLOURS[0], COLOURS[1]]
    assert not any(line.hidden for line in lines)


def test_rows_that_a_race_stopped_come_in_the_order_in_which_they_went_out(
    committed: Path,
) -> None:
    study = load_study(ROOT / "configs/filter_search.yaml", scale="small")
    rows = outcomes(study, Store(committed, "filter_search", "small"))
    standings = [rows[name].standing for name in ranked(study, rows)]
    went_out = [standing.place for standing in standings if standing and not standing.points]
    assert 16 < len(went_out) < len(standings) == 29
    assert standings[: -len(went_out)] == [s for s in standings if s and s.points]
    out = [(-place.rung, place.rank) for place in went_out if place is not None]
    assert out == sorted(out)


def test_of_many_rows_all_but_the_first_are_hidden() -> None:
    lines = lines_of(["a", "b", "c"], [2, 0, 1], 2)
    assert [line.hidden for line in lines] == [False, True, False]
    assert [line.colour for line in lines] == [COLOURS[1], COLOURS[2], COLOURS[0]]


def test_a_sweep_marks_the_choice_and_shows_what_was_lost_at_the_bottom(tmp_path: Path) -> None:
    known = found(tmp_path)
    chart = sweep_chart(known.study, known.rows, row_lines(known.study, known.rows))
    assert chart is not None
    scores, lost = chart.variants[0].data[0], chart.variants[0].data[1]
    assert scores["x"] == [0.01, 0.1]
    assert scores["marker"]["symbol"] == ["circle", "star"]
    assert lost["y"] == ["failed"]
    assert chart.variants[0].data[3]["y"] == ["diverged"]


def test_the_committed_figure_is_shown_if_it_is_what_would_be_drawn(tmp_path: Path) -> None:
    """Another metric of the same records, or another name of a row, is another figure."""
    known = found(tmp_path, made_up_study(HOSTILE))
    write_report(known.study, known.rows, known.store.root)
    file = known.store.root / "figure.svg"
    file.write_text(file.read_text() + "<!-- the committed one -->")

    def committed(study: Study, rows: list[Outcome]) -> bool:
        picture = study_picture(study, rows, known.store.root)
        assert picture is not None
        return b"the committed one" in base64.b64decode(picture.source.partition(",")[2])

    assert committed(known.study, known.rows)
    other = dataclasses.replace(known.study, figure={"metric": "val_accuracy"})
    assert not committed(other, known.rows)
    named = [dataclasses.replace(known.rows[0], name="another"), *known.rows[1:]]
    assert not committed(known.study, named)


def test_an_unfinished_race_shows_its_losses_as_losses(tmp_path: Path) -> None:
    """No point has ended: the scores are of what is on record so far."""
    known = found(tmp_path)
    race = [
        dataclasses.replace(
            row,
            sweep=[
                dataclasses.replace(
                    scored,
                    record=None,
                    score=-0.25,
                    trial=dataclasses.replace(scored.trial, task="rosenbrock"),
                )
                for scored in row.sweep
            ],
        )
        for row in known.rows
    ]
    chart = sweep_chart(known.study, race, row_lines(known.study, race))
    assert chart is not None
    assert chart.variants[0].data[0]["y"] == [0.25, 0.25, 0.25]


def test_an_axis_has_no_end_at_infinity(tmp_path: Path) -> None:
    """Squares of such values are beyond a float; Plotly would be handed what JSON has not."""
    known = found(tmp_path, ends=lambda trial: accuracy(*(1e300 * trial.seed for _ in range(4))))
    with np.errstate(over="ignore", invalid="ignore"):
        chart = curve_chart(known.study, known.rows, row_lines(known.study, known.rows))
    assert chart is not None
    json.dumps(chart.to_json(), allow_nan=False)


def test_rows_that_differ_in_another_swept_setting_are_separate_lines(tmp_path: Path) -> None:
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


def test_values_that_are_not_numbers_are_null() -> None:
    assert short([1 / 3, math.nan, math.inf]) == [0.333333, None, None]


def test_every_template_lets_jinja_escape_what_it_prints() -> None:
    for path in (ROOT / "nos_repro/report/pages/templates").glob("*.html"):
        text = path.read_text("utf-8")
        assert "|safe" not in text
        assert "autoescape" not in text
