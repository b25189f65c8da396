"""The verb `search`, in separate processes: kills, Ctrl-C, and what is trained besides."""

import dataclasses
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver

import pytest
import torch
import yaml

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.load import load_study
from nos_repro.launch.local import LocalWorkers
from nos_repro.report.search.history import read_history
from nos_repro.search.hall import best_rules
from nos_repro.search.log import Log
from nos_repro.search.run import confirm, run_search, train_refused
from nos_repro.search.settings import load_search
from nos_repro.search.side_runs import race_order, read_side_runs
from nos_repro.search.summary import closing_lines
from tests.conftest import ROOT
from tests.search.helpers import Instant, loop, tiny_search

SMOKE = ROOT / "configs" / "search.yaml"


def command(results, *words):
    return [
        *(sys.executable, "-m", "nos_repro", "search", str(SMOKE), "--scale", "smoke"),
        *("--results", str(results), *words),
    ]


def history(results):
    return [
        (event["sample"], event["key"], event["reward"])
        for event in Log(results / "search" / "smoke" / "log.jsonl").read()
        if event["event"] == "evaluated"
    ]


def weights(results):
    path = results / "search" / "smoke" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)["state"]
    return torch.load(io.BytesIO(state.numpy().tobytes()))["algorithm"]["controller"]


def test_a_damaged_log_is_refused_before_a_baseline_trains(tmp_path, capsys):
    folder = tmp_path / "search" / "smoke"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text('{"event": "dreamt"}\n{"event": "session"}\n')
    assert main(["search", str(SMOKE), "--scale", "smoke", "--results", str(tmp_path)]) == 2
    assert "log.jsonl, line 1" in capsys.readouterr().err
    assert not (folder / "named.jsonl").exists()


@pytest.mark.slow
def test_killed_3_times_a_search_ends_as_if_it_had_not_been_killed(tmp_path):
    """SIGKILL hits the controller at 3 moments; one worker, real children on the digits, in a
    cascade and with a race at the end."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    cascade = "cascade={cheap: {task: {name: mlp}, rates: [0.1], epochs: 1}, first: 3}"
    race = "race={best: 3, seeds: 2, everyone: 1}"
    words = ("--workers", "1", "samples=60", cascade, race)
    subprocess.run(command(whole, *words), cwd=ROOT, check=True, capture_output=True)
    source = random.Random(0)
    log = killed / "search" / "smoke" / "log.jsonl"
    for kill in range(3):
        process = subprocess.Popen(
            command(killed, *words), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
        )
        before = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) <= before + (
            400 if kill else 0
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(source.random() * 0.3)
        process.kill()
        process.wait()
    subprocess.run(command(killed, *words), cwd=ROOT, check=True, capture_output=True)
    assert history(killed) == history(whole)
    assert race_order(killed / "search" / "smoke") == race_order(whole / "search" / "smoke") != []
    ours, theirs = weights(killed), weights(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_workers_that_are_killed_lose_nothing_and_nothing_is_counted_twice(tmp_path):
    """Children's processes are killed with SIGKILL again and again while two of them work."""
    search = load_search(SMOKE, scale="smoke", overrides=["samples=12"])
    search = dataclasses.replace(search, baselines={})
    launcher = KillsWorkers(workers=2)
    run_search(search, tmp_path, launcher, Conditions(tmp_path, device="cpu"), 2)
    assert len(launcher.killed) >= 3
    assert sorted(sample for sample, _, _ in history(tmp_path)) == list(range(12))
    evaluated = {str(e["sample"]): e["status"] for e in _events(tmp_path, "evaluated")}
    assert {evaluated[name] for name in launcher.killed} <= {"healthy", "diverged"}
    assert not _events(tmp_path, "withdrawn")


@pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux only")
def test_a_search_outlives_its_fork_server(tmp_path):
    """It is killed twice while children are at work, and started again each time."""
    search = load_search(SMOKE, scale="smoke", overrides=["samples=6"])
    search = dataclasses.replace(search, baselines={})
    launcher = KillsForkServer(workers=2)
    run_search(search, tmp_path, launcher, Conditions(tmp_path, device="cpu"), 2)
    assert len(launcher.killed) == 2
    assert sorted(sample for sample, _, _ in history(tmp_path)) == list(range(6))
    assert not _events(tmp_path, "withdrawn")


class KillsForkServer(LocalWorkers):
    """Kills the server while the first and the second child that it sees are at work."""

    def __init__(self, workers):
        super().__init__(workers)
        self.killed = set()

    def wait(self, seconds):
        busy = {slot.job.name for slot in self._slots if slot.job is not None}
        if busy - self.killed and len(self.killed) < 2:
            server = forkserver._forkserver._forkserver_pid
            self.killed.add(min(busy - self.killed))
            os.kill(server, signal.SIGKILL)
        return super().wait(seconds)


class KillsWorkers(LocalWorkers):
    """Kills the worker of each of the first four children that it finds at work."""

    def __init__(self, workers):
        super().__init__(workers)
        self.killed = set()

    def wait(self, seconds):
        for slot in self._slots:
            fresh = slot.job is not None and slot.job.name not in self.killed
            processes = list((slot.pool._processes or {}).values())
            if fresh and processes and len(self.killed) < 4:
                os.kill(processes[0].pid, signal.SIGKILL)
                self.killed.add(slot.job.name)
        return super().wait(seconds)


def _events(results, kind):
    log = Log(results / "search" / "smoke" / "log.jsonl")
    return [event for event in log.read() if event["event"] == kind]


@pytest.mark.slow
def test_ctrl_c_ends_a_search_at_once_and_the_same_command_continues(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, "--workers", "1", "samples=500"),
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "search" / "smoke" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() or log.stat().st_size < 2000:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from here" in errors
    assert "Traceback" not in errors
    before = history(tmp_path)
    done = subprocess.run(
        command(tmp_path, "--workers", "1", f"samples={len(before) + 3}"),
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert history(tmp_path)[: len(before)] == before
    assert len(history(tmp_path)) == len(before) + 3
    assert "best:" in done.stderr
    assert "rules" in done.stderr


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A whole smoke search with baselines and confirmation, and some refused rules trained."""
    results = tmp_path_factory.mktemp("searched")
    search = load_search(SMOKE, scale="smoke", overrides=["samples=25"])
    conditions = Conditions(results, device="cpu")
    for work in (
        lambda launcher: run_search(search, results, launcher, conditions, 1),
        lambda launcher: confirm(search, results, launcher, conditions),
        lambda launcher: train_refused(search, results, 3, launcher, conditions),
    ):
        work(Instant())
    return search, results


def test_baselines_the_best_and_the_refused_are_trained_besides_the_search(searched):
    search, results = searched
    named = read_side_runs(results / "search" / "smoke")
    of = {purpose: [n for n, _ in named if n.purpose == purpose] for purpose in
          ("baseline", "confirm", "refused")}  # fmt: skip
    assert {n.name for n in of["baseline"]} == set(search.baselines)
    assert {n.seed for n in of["confirm"]} == {1, 2}
    assert len(of["confirm"]) == 2 * (2 + len(search.baselines))
    refused = {e["reason"] for e in _events(results, "evaluated") if e["status"] == "refused"}
    assert 1 <= len(of["refused"]) <= 3
    assert {n.name for n in of["refused"]} <= refused


def test_what_was_trained_besides_the_search_is_not_trained_again(searched):
    search, results = searched
    before = read_side_runs(results / "search" / "smoke")
    launcher = Instant()
    confirm(search, results, launcher, Conditions(results))
    assert launcher.trained == []
    assert read_side_runs(results / "search" / "smoke") == before


def test_a_confirmation_at_other_rates_is_trained_anew_and_shown_alone(searched, tmp_path):
    _, results = searched
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    words = ["samples=25", "confirm.rates=[0.03, 0.3]"]
    finer = load_search(SMOKE, scale="smoke", overrides=words)
    launcher, swept = Instant(), []
    launcher.fate = lambda _, job: swept.append(job.child.rates) or "recorded"
    confirm(finer, tmp_path, launcher, Conditions(tmp_path))
    children = finer.confirm.seeds * (finer.confirm.best + len(finer.baselines))
    assert swept == [[0.03, 0.3]] * children
    shown = read_history(SMOKE, tmp_path, scale="smoke", overrides=words).of("confirm")
    assert [run.rates for run, _ in shown] == [(0.03, 0.3)] * children
    before = read_history(SMOKE, tmp_path, scale="smoke", overrides=words[:1]).of("confirm")
    assert [run.rates for run, _ in before] == [()] * children


def test_a_baseline_that_the_file_has_no_more_is_shown_no_more(searched):
    _, results = searched
    words = ["samples=25", "baselines.Adam=null", "baselines.SGD='rule: g * 1'"]
    fewer = load_search(SMOKE, scale="smoke", overrides=words)
    folder = results / "search" / "smoke"
    line = next(x for x in closing_lines(fewer, folder, "")[0] if "baselines:" in x)
    assert "Momentum" in line
    assert "Adam" not in line
    assert "SGD" not in line
    history = read_history(SMOKE, results, scale="smoke", overrides=words)
    for purpose in ("baseline", "confirm"):
        names = {run.name for run, _ in history.of(purpose)}
        assert {"Momentum"} <= names <= {*fewer.baselines, *history.rules.values()} - {"SGD"}


def test_the_best_rules_are_the_log_s(searched):
    _, results = searched
    entries = best_rules(results / "search" / "smoke", 3)
    healthy = [e for e in _events(results, "evaluated") if e["status"] == "healthy"]
    rewards = sorted((e["reward"] for e in healthy), reverse=True)
    assert [entry.reward for entry in entries] == rewards[:3]
    for entry in entries:
        drawn = [e for e in _events(results, "evaluated") if e["rule"] == entry.rule]
        assert len(drawn) == entry.drawn


def test_the_best_rules_are_exported_as_a_study_that_loads(searched, capsys):
    search, results = searched
    words = ["search", str(SMOKE), "--scale", "smoke", "--results", str(results), "samples=25"]
    assert main([*words, "--export-best", "3"]) == 0
    path = results / "search" / "smoke" / "filter.yaml"
    assert str(path) in capsys.readouterr().out
    study = load_study(path, scale="smoke")
    shipped = yaml.safe_load((ROOT / "configs" / "filter.yaml").read_text())
    assert study.study == "filter_search"
    best = best_rules(results / "search" / "smoke", 3)
    assert [row.optimizer for row in study.rows.values()][:3] == [f"rule: {e.text}" for e in best]
    baselines = {n for n, row in shipped["rows"].items() if not row["optimizer"].startswith("rule")}
    assert set(list(study.rows)[3:]) == baselines | set(search.baselines)
    assert {len(row.sweep["lr"]) for row in study.rows.values()} == {5}, "equal budgets"


def test_nothing_found_yet_is_one_clear_error(tmp_path):
    search = tiny_search()
    with pytest.raises(ConfigError, match="search first"):
        confirm(search, tmp_path, Instant(), Conditions(tmp_path))
    with pytest.raises(ConfigError, match="search first"):
        train_refused(search, tmp_path, 3, Instant(), Conditions(tmp_path))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--export-best", "0"], "--export-best must be at least 1"),
        (["--train-refused", "0"], "--train-refused must be at least 1"),
        (["--workers", "-1"], "--workers must be from 0 to"),
        (["algorithm.name=pp"], "did you mean 'ppo'"),
    ],
)
def test_a_mistyped_argument_is_one_error(words, complaint, tmp_path, capsys):
    given = ["search", str(SMOKE), "--scale", "smoke", "--results", str(tmp_path), *words]
    assert main(given) == 2
    assert complaint in capsys.readouterr().err


def test_a_dry_run_shows_the_space_and_the_time_and_writes_nothing(tmp_path, capsys):
    given = ["search", str(SMOKE), "--scale", "smoke", "--results", str(tmp_path / "r")]
    assert main([*given, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "240 strings" in said
    assert "healthy child" in said
    assert not (tmp_path / "r").exists()


def test_settings_are_kept_beside_the_log(tmp_path):
    loop(tmp_path, search=tiny_search(samples=2)).run()
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert kept["algorithm"]["name"] == "ppo"
    assert "samples" not in kept
