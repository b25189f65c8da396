"""A whole study with worker processes: nothing is lost or done twice, whatever is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.load import load_study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.launch.dry_run import dry_run
from nos_repro.launch.local import LocalWorkers
from nos_repro.launch.run import run_study
from tests.conftest import ROOT
from tests.launch.study import TINY


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def command(config, results, *words):
    return [
        sys.executable, "-m", "nos_repro", "run", str(config), "--scale", "smoke",
        "--results", str(results), *words,
    ]  # fmt: skip


def run(config, results, *words, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(config, results, *words),
        capture_output=True, text=True, env=environment, timeout=300, **options,
    )  # fmt: skip


def metrics(results):
    files = sorted((results / "tiny/smoke/trials").glob("*/metrics.jsonl"))
    return {file.parent.name: file.read_bytes() for file in files}


def records(results):
    lines = (results / "tiny/smoke/records.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """What an undisturbed run prints, and its results."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    done = run(folder / "tiny.yaml", folder / "results", "--workers", "2")
    assert done.returncode == 0, done.stderr
    return done.stdout, folder / "results"


@pytest.fixture(scope="module")
def undisturbed(once):
    """The study's metrics, by trial, from an undisturbed run."""
    return metrics(once[1])


@pytest.mark.slow
def test_killing_a_run_again_and_again_changes_no_byte_of_its_metrics(
    config, tmp_path, undisturbed
):
    results = tmp_path / "results"
    moments = random.Random(1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ("--workers", "2", "--checkpoint-seconds", "0.05")
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(
            command(config, results, *words),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(moments.uniform(4.0, 9.0))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    done = run(config, results, *words)
    assert done.returncode == 0, done.stderr
    assert kills > 0
    assert metrics(results) == undisturbed
    assert {record["status"] for record in records(results)} == {"finished"}
    assert len(records(results)) == len(undisturbed) == 6


def test_a_second_run_does_nothing_twice_and_prints_the_same_table(config, once):
    printed, results = once
    before = {p: p.stat().st_mtime_ns for p in results.rglob("record*.json*")}
    second = run(config, results)
    assert second.returncode == 0
    assert second.stdout == printed
    assert {p: p.stat().st_mtime_ns for p in results.rglob("record*.json*")} == before


@pytest.mark.slow
def test_two_runs_of_the_same_study_at_once_share_the_work(config, tmp_path, undisturbed):
    results = tmp_path / "results"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(
            command(config, results, "--workers", "1"),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    out = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], out
    assert out[0][0] == out[1][0]
    assert metrics(results) == undisturbed


@pytest.mark.slow
def test_interrupting_a_run_saves_running_trials_and_says_so(config, tmp_path, undisturbed):
    results = tmp_path / "results"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command(config, results, "--workers", "2", "--checkpoint-seconds", "1000"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(results.glob("tiny/smoke/trials/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "goes on from here" in errors
    assert "Traceback" not in errors
    assert run(config, results).returncode == 0
    assert metrics(results) == undisturbed


def test_a_worker_that_is_killed_loses_only_time(config, tmp_path, undisturbed):
    study = load_study(config, scale="smoke")
    store = Store(tmp_path / "results", study.study, study.scale)
    conditions = Conditions(tmp_path, checkpoint_seconds=0.05)
    launcher = KillsOneWorker(workers=2)
    assert run_study(study, store, launcher, conditions) == 0
    assert launcher.killed
    assert metrics(tmp_path / "results") == undisturbed
    assert all(row.missing == 0 for row in outcomes(study, store))


class KillsOneWorker(LocalWorkers):
    """Kills a worker with SIGKILL once it has written its first metrics."""

    killed = False

    def wait(self, seconds):
        busy = [slot for slot in self._slots if slot.job is not None]
        if not self.killed and any((s.job.folder / "metrics.jsonl").exists() for s in busy):
            (process,) = busy[0].pool._processes.values()
            os.kill(process.pid, signal.SIGKILL)
            self.killed = True
        return super().wait(min(seconds, 0.05))


@pytest.mark.slow
def test_one_bad_trial_never_stops_the_others_and_is_tried_again_when_asked(
    config, tmp_path, monkeypatch
):
    plugin = tmp_path / "plugin"
    (plugin / "mine").mkdir(parents=True)
    (plugin / "mine" / "fragile.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(plugin))
    values = {**TINY, "task": {**TINY["task"], "name": "mine.fragile"}}
    config.write_text(yaml.safe_dump(values))
    results = tmp_path / "results"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{plugin}", "FRAGILE": "1"}
    done = subprocess.run(
        command(config, results), capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 1
    statuses = [record["status"] for record in records(results)]
    assert statuses.count("failed") == 2
    failed = next(record for record in records(results) if record["status"] == "failed")
    assert "broke on purpose" in failed["reason"]
    folder = results / "tiny/smoke/trials" / failed["id"]
    assert "Traceback" in json.loads((folder / "record.json").read_text())["traceback"]
    assert failed["traceback"] == "", "a machine's paths do not go into what is committed"
    environment.pop("FRAGILE")
    again = subprocess.run(
        command(config, results, "--retry"),
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert {record["status"] for record in records(results)} == {"finished"}


FRAGILE = """
import os
from nos_repro.tasks.convnet import ConvNet
from nos_repro.tasks.registry import TASKS


@TASKS.register("fragile")
class Fragile(ConvNet):
    def configure_optimizers(self):
        made = super().configure_optimizers()
        if "FRAGILE" in os.environ and made["optimizer"].param_groups[0]["initial_lr"] == 0.05:
            raise RuntimeError("broke on purpose")
        return made
"""


@pytest.mark.slow
def test_a_corrupt_checkpoint_is_named_kept_and_the_trial_starts_over(
    config, tmp_path, undisturbed
):
    study = load_study(config, scale="smoke")
    store = Store(tmp_path / "results", study.study, study.scale)
    trial = outcomes(study, store)[0].sweep[0].trial
    folder = store.open(trial)
    (folder / "checkpoint.pt").write_bytes(b"PK torn")
    done = run(config, tmp_path / "results")
    assert done.returncode == 0
    assert "checkpoint.pt is corrupt" in done.stderr
    assert (folder / "checkpoint.corrupt.pt").read_bytes() == b"PK torn"
    assert metrics(tmp_path / "results") == undisturbed


def test_a_dry_run_lists_every_trial_and_writes_nothing(config, tmp_path):
    study = load_study(config, scale="smoke")
    store = Store(tmp_path / "results", study.study, study.scale)
    text = dry_run(study, store, Conditions(tmp_path), workers=2, threads=1)
    assert text.count(" sweep ") == 4
    assert text.count(" repeat ") == 2
    assert "6 to run" in text
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--scale", "huge"], "unknown scale"),
        (["--rows", "nothing"], "unknown row"),
        (["training.epochs=0"], "training.epochs"),
        (["--workers", "-1"], "--workers must be from 0 to"),
        (["--workers", "1000000000"], "got 1000000000"),
        (["--threads", "1000000000"], "--threads must be from 1 to"),
        (["task.data=cifar10"], "cifar"),
    ],
)
def test_a_users_mistake_is_one_error_with_status_2_before_anything_runs(
    config, tmp_path, words, complaint, capsys
):
    words = [*words, "--data", str(tmp_path / "nothing")]
    assert main(command(config, tmp_path / "results", *words)[3:]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_task_that_makes_no_data_is_one_error_before_training(tmp_path, monkeypatch, capsys):
    (tmp_path / "dataless.py").write_text(
        "from nos_repro.tasks.rosenbrock import Rosenbrock\n"
        "class Dataless(Rosenbrock):\n"
        "    @classmethod\n"
        "    def make_data(cls, settings, *, data_dir, seed):\n"
        "        return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "tiny.yaml"
    task = {"name": "dataless.Dataless"}
    rows = {"SGD": {"optimizer": "sgd"}}
    columns = {"final_test_loss": "Loss"}
    config.write_text(yaml.safe_dump({**TINY, "task": task, "rows": rows, "columns": columns}))
    words = ["--scale", "smoke", "--results", str(tmp_path / "results"), "--workers", "0"]
    assert main(["run", str(config), *words]) == 2
    problem = "error: task dataless.Dataless: make_data must return a TaskData, got None\n"
    assert capsys.readouterr().err == problem
