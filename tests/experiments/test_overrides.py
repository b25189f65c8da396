"""Arguments on the command line: settings that change, rows that are added or left out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nos_repro.cli import main
from nos_repro.errors import NosError
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from tests.conftest import ROOT
from tests.launch.study import TINY

ADAMW = "+rows.AdamW={optimizer: adam, options: {eps: 0.001}, sweep: {lr: [0.001]}}"


def table2(*overrides: str) -> Study:
    return load_study(ROOT / "configs/table2.yaml", scale="smoke", overrides=overrides)


def test_a_row_is_added_whole_or_key_by_key() -> None:
    study = table2(ADAMW)
    assert list(study.rows)[-1] == "AdamW"
    row = study.rows["AdamW"]
    assert (row.optimizer, row.options, row.sweep) == ("adam", {"eps": 0.001}, {"lr": [0.001]})
    words = ["+rows.AdamW.optimizer=adam", "+rows.AdamW.options.eps=0.001"]
    rates = ["rows.AdamW.sweep.lr=[0.001]"]
    assert table2(*words, *rates).rows["AdamW"] == row
    assert table2(*rates, *words).rows["AdamW"] == row


def test_a_row_is_left_out() -> None:
    study = table2("rows.SGD (cosine)=null")
    assert "SGD (cosine)" not in study.rows
    assert "SGD (cosine)" not in study.figure["rows"]


def test_an_optimizer_and_its_options_are_one_mapping_if_you_like() -> None:
    row = table2("+rows.A={optimizer: {name: adam, eps: 0.001}}").rows["A"]
    assert (row.optimizer, row.options) == ("adam", {"eps": 0.001})
    row = table2("rows.Adam (cosine).optimizer.eps=0.001").rows["Adam (cosine)"]
    assert (row.optimizer, row.options) == ("adam", {"eps": 0.001})
    row = table2("+rows.A={optimizer: sgd, schedule: {name: linear_cosine, beta: 0.1}}").rows["A"]
    assert (row.schedule, row.schedule_options) == ("linear_cosine", {"beta": 0.1})


def test_a_row_whose_name_holds_full_stops_can_be_changed() -> None:
    path = ROOT / "configs/filter.yaml"
    study = load_study(path, scale="smoke", overrides=["rows.g + drop(m, 0.3).seed=3"])
    assert study.rows["g + drop(m, 0.3)"].seed == 3


def test_words_that_fill_one_sweep_are_taken_together() -> None:
    words = ["rows.SGD (cosine).sweep.lr=[0.1]", "rows.SGD (cosine).sweep.weight_decay=[0.0]"]
    assert table2(*words).rows["SGD (cosine)"].sweep == {"lr": [0.1], "weight_decay": [0.0]}


def test_another_task_drops_the_keys_that_only_the_old_one_has(caplog: Any) -> None:
    study = table2("task.name=convnet", "task.head=flat")
    assert (study.task["head"], study.task["batch_size"]) == ("flat", 16)
    (record,) = caplog.records
    assert record.getMessage() == (
        "task.name=convnet leaves out what the file says for wide_resnet: task.depth, task.width"
    )
    with pytest.raises(NosError, match=r"task.width: unknown key"):
        table2("task.name=convnet", "task.width=2")
    with pytest.raises(NosError, match="did you mean 'convnet'"):
        table2("task.name=convet")


def test_settings_for_a_cluster_are_ignored_on_this_machine(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "tiny.yaml"
    launcher = {"name": "slurm", "cluster": "not-here", "gpus": 4}
    path.write_text(yaml.safe_dump({**TINY, "launcher": launcher}))
    assert load_study(path, scale="smoke").launcher == launcher
    study = load_study(path, scale="smoke", overrides=["launcher=local"])
    assert study.launcher == {"name": "local"}
    assert "for slurm: launcher.cluster, launcher.gpus" in caplog.text
    cluster = ["launcher=slurm", "launcher.gpus=1"]
    path.write_text(yaml.safe_dump({**TINY, "launcher": {"hours": 8}}))
    study = load_study(path, scale="smoke", overrides=cluster)
    assert study.launcher == {"name": "slurm", "hours": 8, "gpus": 1}


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("rows.SGD (cosin).seed=1", "did you mean 'SGD (cosine)'?"),
        ("rows.AdamW={optimizer: adam}", "to add one: +rows.AdamW="),
        ("+rows.SGD (cosine)={optimizer: sgd}", "the row 'SGD (cosine)' already exists"),
        ("+task.width=2", "+ adds a row to a study"),
        ("+rows.A={optimizer: adm}", "did you mean 'adam'"),
        ("+rows.A={optimzer: adam}", "did you mean 'optimizer'"),
        ("+rows.A={seed: 1}", "rows.A: no optimizer"),
        ("+rows.A=", "+ adds a row"),
        ("+rows.A={optimizer: {eps: 1}}", "rows.A: no optimizer"),
    ],
)
def test_a_typing_error_is_an_error_and_not_a_new_row(word: str, complaint: str) -> None:
    with pytest.raises(NosError) as caught:
        table2(word)
    assert complaint in str(caught.value)


@pytest.mark.slow
def test_every_verb_takes_a_row_that_was_added(tmp_path: Path, capsys) -> None:
    path = tmp_path / "tiny.yaml"
    short: dict[str, Any] = {"epochs": 1}
    path.write_text(yaml.safe_dump({**TINY, "scales": {"smoke": {"training": short}}}))
    more = ["--scale", "smoke", "--results", str(tmp_path / "results"), ADAMW, "rows.drops=null"]
    assert main(["run", str(path), "--workers", "0", *more]) == 0
    capsys.readouterr()
    for verb in ("report", "status", "verdicts", "verify", "dashboard"):
        assert main([verb, str(path), *more]) == 0, verb
        printed = capsys.readouterr().out
        assert ("AdamW" in printed) or verb in ("verify", "status", "dashboard", "verdicts"), verb
        assert "drops" not in printed
    for verb in ("why", "recheck"):
        assert main([verb, f"{path}:AdamW", *more]) == 0
        assert "AdamW" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["report", str(path), "--html", str(page), *more]) == 0
    assert "+rows.AdamW=" in page.read_text()
    records = (tmp_path / "results/tiny/smoke/records.jsonl").read_text().splitlines()
    options = [json.loads(line)["trial"]["options"] for line in records]
    assert {"eps": 0.001} in options
