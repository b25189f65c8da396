"""Checkpoints and tables as artifacts, for those who ask for them."""

import json

import pytest
import yaml

from nos_repro.cli import main
from tests.conftest import ROOT
from tests.experiments.helpers import TASK
from tests.tracking.reading import parts

TINY = {
    "study": "tiny", "source": "002 Table 0", "claim": "small enough for a test",
    "task": {"name": "convnet", **TASK}, "sweep": {"lr": [0.05]}, "training": {"epochs": 1},
    "columns": {"final_test": "Test"},
    "rows": {"SGD": {"optimizer": "sgd", "paper": {"final_test": 94.3}}},
    "scales": {"smoke": {}},
}  # fmt: skip


def run(tmp_path, *words):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    given = ["run", str(tmp_path / "tiny.yaml"), "--scale", "smoke", "--workers", "0"]
    return main([*given, "--results", str(tmp_path / "results"), *words])


def artifacts(part):
    """The files of each artifact that a part of a run logged, by its type."""
    found = {}
    for item in part.artifacts:
        entries = item["manifest"]["contents"]
        found[item["type"]] = sorted(entry["path"] for entry in entries)
    return found


def test_a_study_s_checkpoints_and_table_are_logged_if_asked_for(tmp_path):
    kinds = ("--wandb-artifacts", "checkpoints", "--wandb-artifacts", "tables")
    assert run(tmp_path, "--wandb", "offline", *kinds) == 0
    root = tmp_path / "results" / "tiny" / "smoke"
    trial, table = parts(root)
    names = ["checkpoint.pt", "record.json", "settings.json"]
    assert artifacts(trial)["model"] == names
    assert artifacts(table)["records"] == ["records.jsonl"]
    (record,) = map(json.loads, (root / "records.jsonl").read_text().splitlines())
    (file,) = table.folder.glob("files/media/table/trials_*.table.json")
    rows = json.loads(file.read_text())
    assert dict(zip(rows["columns"], rows["data"][0], strict=True)) == {
        "row": "SGD", "seed": 0, "lr": 0.05, "weight_decay": 0.0, "status": "finished",
        **{f"{when}_{part}": pytest.approx(record["metrics"][-1][f"{part}_accuracy"])
           for when in ("best", "final") for part in ("val", "test")},
        "paper_final_test": 94.3,
    }  # fmt: skip


def test_without_asking_nothing_is_uploaded_but_the_run(tmp_path):
    assert run(tmp_path, "--wandb", "offline") == 0
    (trial,) = parts(tmp_path / "results" / "tiny" / "smoke")
    assert not trial.artifacts


def test_artifacts_without_wandb_are_one_error(tmp_path, capsys):
    assert run(tmp_path, "--wandb-artifacts", "tables") == 2
    assert "--wandb-artifacts needs --wandb" in capsys.readouterr().err


def test_a_search_s_log_and_controller_are_logged_if_asked_for_and_its_baselines_always(tmp_path):
    words = ["search", str(ROOT / "configs" / "search.yaml"), "--scale", "smoke", "samples=4"]
    kinds = ["--wandb-artifacts", "checkpoints", "--wandb-artifacts", "tables"]
    where = ["--results", str(tmp_path), "--workers", "0", "--wandb", "offline"]
    assert main([*words, *where, *kinds]) == 0
    (part,) = parts(tmp_path / "search" / "smoke")
    logged = artifacts(part)
    assert logged["model"] == ["checkpoint.pt"]
    assert logged["log"] == ["log.jsonl", "named.jsonl", "settings.json"]
    named = map(json.loads, (tmp_path / "search/smoke/named.jsonl").read_text().splitlines())
    rewards = {event["name"]: event["evaluation"]["reward"]
               for event in named if event["event"] == "named"}  # fmt: skip
    assert len(rewards) == 6
    for name, reward in rewards.items():
        assert part.summary[f"baseline_{name}"] == pytest.approx(reward)
