"""Dashboards as code: each can be made, and shows only what is logged."""

import json

import pytest

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.schema import Halving, Selection
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.settings_file import is_search, read_values
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Training
from nos_repro.search.settings import load_search
from nos_repro.tracking.dashboard import Dashboard
from nos_repro.tracking.metrics import columns, curve_metrics, trial_point, trial_summary
from nos_repro.tracking.search_run import follow_search
from nos_repro.tracking.wandb_runs import WandbRuns
from tests.committed import every_committed
from tests.conftest import ROOT
from tests.experiments.helpers import digits_study
from tests.search.helpers import loop, tiny_search
from tests.tracking.reading import parts

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def walk(values, kind):
    """Every panel of this kind in a specification."""
    if isinstance(values, dict):
        if values.get("viewType") == kind:
            yield values["config"]
        for value in values.values():
            yield from walk(value, kind)
    elif isinstance(values, list):
        for value in values:
            yield from walk(value, kind)


def shown(text):
    """What a dashboard reads from runs: names in their history, summary and config."""
    said = json.loads(text)
    history, summary, config = set(), set(), set()
    for panel in walk(said, "Run History Line Plot"):
        history |= {panel["xAxis"], *panel["metrics"]}
        config |= {panel["groupBy"].removesuffix(".value")} if "groupBy" in panel else set()
    for panel in walk(said, "Bar Chart"):
        summary |= set(panel["metrics"])
        config.add(panel["groupBy"].removesuffix(".value"))
    accessors = set()
    for panel in walk(said, "Scatter Plot"):
        accessors |= {panel["xAxis"], panel["yAxis"]}
    for panel in walk(said, "Parallel Coordinates Plot"):
        accessors |= {column["accessor"] for column in panel["columns"]}
    for panel in walk(said, "Parameter Importance"):
        summary.add(panel["targetKey"])
    for workspace in said["workspaces"]:
        (runs,) = workspace["spec"]["section"]["runSets"]
        accessors |= runs["runFeed"]["columnPinned"].keys() - {"run:displayName"}
        keys = [entry["key"] for entry in runs["filters"]["filters"]]
        accessors |= {f"{k['section']}:{k['name']}" for k in keys if k["section"] != "run"}
    for accessor in accessors:
        section, _, name = accessor.partition(":")
        {"summary": summary, "config": config}[section].add(name.removesuffix(".value"))
    return history, summary, config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"selection": Selection()},
        {"selection": Selection(), "training": Training(epochs=4), "halving": Halving(rungs=[2])},
    ],
    ids=["repeats", "sweep alone", "race"],
)
def test_a_studys_dashboard_shows_what_a_trial_really_logs(changes, tmp_path):
    study = digits_study(**changes)
    trial = sweep_trial(study, study.rows["SGD"], points(study, study.rows["SGD"])[0])
    tracker = WandbRuns(study, tmp_path)
    run_trial(trial, tmp_path / "trial", Conditions(tmp_path), tracker=tracker)
    (part,) = parts(tmp_path)
    history, summary, config = shown(Dashboard(study).text())
    assert history <= part.history[-1].keys() | part.losses[-1].keys()
    assert summary <= part.summary.keys()
    assert config <= part.config.keys()
    assert {"epoch", "val_accuracy", "test_accuracy"} <= history
    assert {"best_test", "final_test", "status"} <= summary
    assert {"row", "optimizer", "lr"} <= config


def test_a_searchs_dashboard_shows_what_a_search_really_logs(tmp_path):
    search = tiny_search()
    with follow_search(search, tmp_path, "offline") as follower:
        looped = loop(tmp_path, search=search)
        looped.follower = follower
        looped.run()
    (part,) = parts(tmp_path)
    text = Dashboard(search).text()
    history, summary, _ = shown(text)
    logged = set().union(*(point.keys() for point in part.history))
    assert history <= logged
    assert {"reward", "reward_mean", "entropy"} <= history
    assert summary <= part.summary.keys()
    assert '"val": "children"' in text  # the table's name, in the panel's query
    assert "children._type" in part.summary


def test_a_misspelt_metric_would_be_seen(monkeypatch):
    """wandb-workspaces accepts any name; the tests above find a wrong one."""
    from nos_repro.tracking import panels

    monkeypatch.setattr(panels, "curve_metrics", lambda study: ["val_acuracy"])
    history, _, _ = shown(Dashboard(digits_study()).text())
    assert "val_acuracy" in history


@every_committed("*/*/records.jsonl")
def test_a_dashboard_of_a_committed_study_finds_its_names_in_the_records(path, committed):
    """All tasks that have records, since their metrics' names differ from those of the digits."""
    name, scale, _ = path.parts
    study = load_study(ROOT / "configs" / f"{name}.yaml", scale=scale)
    rows = outcomes(study, Store(committed, name, scale))
    records = [r for row in rows for r in row.counting if r.status == "finished"]
    if not any(row.counting for row in rows):
        pytest.skip("its records were made with other settings")
    assert records
    for record in records:
        assert set(curve_metrics(study)) <= trial_point(record.metrics[-1]).keys()
    said = [trial_summary(study, record).keys() for record in records]
    assert set(columns(study)) <= set().union(*said)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_has_a_dashboard_that_wandb_workspaces_accepts(path):
    load = load_search if is_search(path) else load_study
    for scale in read_values(path)["scales"]:
        shown_of = load(path, scale=scale)
        text = Dashboard(shown_of).text()
        assert text == Dashboard(shown_of).text(), "the ids in it are random"
        said = json.loads(text)
        assert said["report"]["displayName"].startswith(path.stem)
        group = f"{path.stem}/{scale}"
        for workspace in said["workspaces"]:
            (runs,) = workspace["spec"]["section"]["runSets"]
            assert runs["filters"]["filters"][0]["value"] == group


def test_the_numbers_and_the_sweep_are_separate_views():
    said = json.loads(Dashboard(digits_study()).text())
    phases = [
        workspace["spec"]["section"]["runSets"][0]["filters"]["filters"][1]["value"]
        for workspace in said["workspaces"]
    ]
    assert phases == ["repeat", "sweep"]
    kinds = ("Run History Line Plot", "Bar Chart", "Run Comparer")
    assert all(list(walk(said["workspaces"][0], kind)) for kind in kinds)
    assert all(
        panel["groupArea"] == "stddev"
        for panel in walk(said["workspaces"][0], "Run History Line Plot")
    )


def test_the_verb_prints_a_dashboard_or_writes_it(tmp_path, capsys):
    assert main(["dashboard", "table2", "--scale", "small", "--project", "mine"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["report"]["project"]["name"] == "mine"
    path = tmp_path / "board.json"
    words = ["dashboard", "table2", "--scale", "small", "--project", "mine", "--output", str(path)]
    assert main(words) == 0
    assert path.read_text() == printed


@pytest.mark.parametrize(
    ("flag", "name"), [("--project", "team/proj"), ("--entity", "a b/c"), ("--entity", " ")]
)
def test_a_name_that_w_and_b_does_not_accept_is_one_error(flag, name, capsys):
    assert main(["dashboard", "table2", "--scale", "small", flag, name]) == 2
    assert f"{flag}: {name!r} is not a name" in capsys.readouterr().err


def test_a_push_needs_a_login(capsys):
    assert main(["dashboard", "table2", "--push"]) == 2
    said = capsys.readouterr()
    assert "wandb login" in said.err
    assert said.out == ""
