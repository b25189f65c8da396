"""What is sent when a user is logged in, seen by a server on this machine (`loopback.py`)."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.training import Stopped
from nos_repro.experiments.trial import Training
from nos_repro.tracking import connection
from nos_repro.tracking.dashboard import Dashboard
from nos_repro.tracking.wandb_runs import WandbRuns
from tests.conftest import ROOT
from tests.experiments.helpers import TASK, digits_study
from tests.tracking.loopback import ENTITY, loopback
from tests.tracking.reading import parts

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef" * 4
STUDY = digits_study(training=Training(epochs=3))
TINY = {
    "study": "tiny", "source": "002 Table 0", "claim": "small enough for a test",
    "task": {"name": "convnet", **TASK}, "sweep": {"lr": [0.05]},
    "columns": {"best_test": "Best Test"}, "rows": {"SGD": {"optimizer": "sgd"}},
    "scales": {"smoke": {}},
}  # fmt: skip


def id_in(folder):
    return json.loads((folder / "wandb.json").read_text())["id"]


def trial_of(number):
    row = STUDY.rows["SGD"]
    return sweep_trial(STUDY, row, points(STUDY, row)[number])


@pytest.fixture
def server(monkeypatch):
    with loopback() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server


def test_two_attempts_at_a_trial_are_one_run_with_all_its_points(server, tmp_path):
    trial, folder = trial_of(0), tmp_path / "trial"
    tracker = WandbRuns(STUDY, tmp_path / "tracked", "online")
    looks = iter([False] * 5 + [True] * 100)
    with pytest.raises(Stopped):
        run_trial(
            trial, folder, Conditions(tmp_path), stop=lambda: next(looks), tracker=tracker
        )  # fmt: skip
    run_trial(trial, folder, Conditions(tmp_path), tracker=tracker)
    ((name, run),) = server.runs.items()
    assert name == id_in(folder)
    assert (run["groupName"], run["jobType"]) == ("tiny/smoke", "sweep")
    assert run["tags"] == ["SGD", "sgd", "constant"]
    config = {key: said["value"] for key, said in json.loads(run["config"]).items()}
    assert (config["row"], config["phase"], config["lr"]) == ("SGD", "sweep", 0.01)
    assert len(server.of("RunResumeStatus")) == 2
    told = [(p["epoch"], p["global_step"]) for p in server.lines[name] if "epoch" in p]
    assert told == [(1, 4), (2, 8), (3, 12)]
    record = json.loads((folder / "record.json").read_text())
    assert server.lines[name][-1]["test_accuracy"] == record["metrics"][-1]["test_accuracy"]
    assert server.summaries[name]["status"] == "finished"
    assert server.summaries[name]["final_test"] == record["metrics"][-1]["test_accuracy"]


def two_trials_finish(tmp_path, tracker):
    for number in (0, 1):
        folder = tmp_path / str(number)
        run_trial(trial_of(number), folder, Conditions(tmp_path), tracker=tracker)
        assert json.loads((folder / "record.json").read_text())["status"] == "finished"


def test_a_server_that_does_not_answer_is_waited_for_once_and_fails_no_trial(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(connection, "ONLINE_SECONDS", 3.0)
    tracker = WandbRuns(STUDY, tmp_path / "tracked", "online")
    two_trials_finish(tmp_path, tracker)
    assert caplog.text.count("W&B's server does not open a run") == 1
    written = parts(tracker.folder)
    assert {part.run["run_id"] for part in written} == {
        id_in(tmp_path / str(number)) for number in (0, 1)
    }
    assert [len(part.history) for part in written] == [3, 3]


def test_a_server_that_accepts_no_uploads_is_waited_for_once_and_fails_no_trial(
    server, tmp_path, monkeypatch, caplog
):
    server.takes.clear()
    monkeypatch.setattr(connection, "FINISH_SECONDS", 3.0)
    tracker = WandbRuns(STUDY, tmp_path / "tracked", "online")
    two_trials_finish(tmp_path, tracker)
    assert caplog.text.count("W&B does not have the whole run") == 1
    assert list(server.runs) == [id_in(tmp_path / "0")]
    (written,) = parts(tracker.folder)
    assert written.run["run_id"] == id_in(tmp_path / "1")
    assert len(written.history) == 3


def test_the_printed_command_uploads_what_was_written_offline(server, tmp_path, monkeypatch):
    tracker = WandbRuns(STUDY, tmp_path / "tracked", "offline")
    trial = trial_of(0)
    run_trial(trial, tmp_path / "trial", Conditions(tmp_path), tracker=tracker)
    assert not server.asked
    (folder,) = tracker.folder.glob("wandb/offline-run-*")
    subprocess.run([sys.executable, "-m", "wandb", "sync", str(folder)], check=True, timeout=120)
    name = id_in(tmp_path / "trial")
    assert [p["global_step"] for p in server.lines[name] if "epoch" in p] == [4, 8, 12]
    assert [p["global_step"] for p in server.lines[name] if "loss" in p] == list(range(1, 13))
    assert server.runs[name]["jobType"] == "sweep"
    assert server.summaries[name]["status"] == "finished"


def test_auto_is_online_end_to_end_and_the_key_is_in_no_file_and_no_body(server, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    words = ["run", str(tmp_path / "tiny.yaml"), "--scale", "smoke", "--wandb", "auto"]
    results = tmp_path / "results"
    done = subprocess.run(
        [sys.executable, "-m", "nos_repro", *words, "--results", str(results), "--workers", "1"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    ((name, lines),) = server.lines.items()
    assert name.startswith("tiny-smoke-")
    assert [line["epoch"] for line in lines if "epoch" in line] == [1]
    assert "wandb sync" not in done.stderr  # nothing is left to upload
    assert KEY not in done.stdout + done.stderr
    assert not any(KEY.encode() in body for body in server.bodies)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_push_sends_the_dashboard_that_was_printed(server, capsys):
    words = ["dashboard", "table2", "--scale", "small", "--entity", ENTITY]
    assert main([*words, "--push"]) == 0
    assert capsys.readouterr().out.count("saved http") == 3
    study = load_study(ROOT / "configs" / "table2.yaml", scale="small")
    printed = json.loads(Dashboard(study, ENTITY).text())
    *views, report = [*server.of("UpsertView2"), *server.of("upsertView")]
    for sent, board in zip(views, printed["workspaces"], strict=True):
        assert sent["displayName"] == board["displayName"]
        assert names_in(json.loads(sent["spec"])) == names_in(board["spec"])
    assert names_in(json.loads(report["spec"])) == names_in(printed["report"]["spec"])


def test_a_push_for_a_login_without_an_entity_asks_for_one(server, monkeypatch, capsys):
    nobody = {"viewer": {"id": "1", "entity": None}}
    monkeypatch.setattr(server, "_GetDefaultEntity", lambda _: nobody, raising=False)
    assert main(["dashboard", "table2", "--scale", "small", "--push"]) == 2
    assert "--entity" in capsys.readouterr().err
    assert not server.of("upsertView")


def names_in(values):
    """Everything except random fields."""
    if isinstance(values, dict):
        return {k: names_in(v) for k, v in values.items() if k not in ("id", "__id__")}
    return [names_in(value) for value in values] if isinstance(values, list) else values
