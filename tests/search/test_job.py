"""An evaluation as a job: its answer on disk, and a child that hangs."""

import dataclasses
import json
import os
import time

import pytest

from nos_repro.errors import ConfigError, LaunchError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import this_host
from nos_repro.experiments.heartbeat import STALE_SECONDS, Witness
from nos_repro.experiments.load import task_section
from nos_repro.launch.base import Report
from nos_repro.launch.local import InProcess, LocalWorkers
from nos_repro.search import job as job_module
from nos_repro.search.folder import hold
from nos_repro.search.job import EvaluationJob, evaluation_of
from tests.search.helpers import DIGITS, loop, tiny_child, tiny_search


@pytest.fixture
def job(tmp_path):
    conditions = Conditions(tmp_path, device="cpu")
    return EvaluationJob("3", "key", "rule: g", tiny_child(), conditions, tmp_path / "answers")


def test_the_answer_is_a_file_that_only_the_same_question_accepts(job):
    assert job.answer() is None
    launcher = InProcess()
    launcher.submit(job)
    (report,) = launcher.wait(0)
    assert evaluation_of(report) == job.answer()
    assert job.answer().status == "healthy"
    assert dataclasses.replace(job, key="another").answer() is None
    job.forget()
    assert job.answer() is None
    job.forget()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"key": "key"}', '{"key": "key", "evaluation": 3}']
)
def test_a_damaged_answer_is_none(job, text):
    job.path.parent.mkdir()
    job.path.write_text(text)
    assert job.answer() is None


def test_a_child_that_hangs_is_killed_scores_0_and_blocks_no_worker(tmp_path, monkeypatch):
    """The step itself never ends, so that the child cannot look at the clock."""
    monkeypatch.setattr(job_module, "GRACE_SECONDS", 1.0)
    task = task_section({**DIGITS, "name": "tests.search.hanging"})
    search = tiny_search(child=tiny_child(task=task, seconds=1.0), samples=3)
    hanging = loop(tmp_path, LocalWorkers(workers=1), search)
    hanging.run()
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    overran = [event for event in events if event.get("status") == "overran"]
    assert overran
    assert all(event["reward"] == 0 and "hung" in event["reason"] for event in overran)
    assert sum(event["event"] == "evaluated" for event in events) == 3


@pytest.mark.parametrize("outcome", ["cancelled", "timed_out"])
def test_a_child_that_a_cluster_ends_for_good_stops_the_search_and_is_not_scored(job, outcome):
    with pytest.raises(LaunchError, match=r"(?s)raise launcher.hours.*run the same command again"):
        evaluation_of(Report(job, outcome, "raise launcher.hours"))


def test_an_evaluation_is_the_same_job_in_every_process_that_asks_for_it(job, tmp_path):
    again = dataclasses.replace(job, conditions=Conditions(tmp_path / "elsewhere"))
    assert again.identity == job.identity
    assert dataclasses.replace(job, key="another").identity != job.identity


def test_a_controller_in_a_slurm_job_waits_for_the_claim_of_its_predecessor(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    host = AnotherHost(tmp_path, beats=3)
    with hold(tmp_path, witness=Witness(host.now), wait=host.wait):
        assert host.seconds > STALE_SECONDS
        assert json.loads((tmp_path / "claim.json").read_text())["host"] != "another-host"


def test_a_killed_controller_whose_number_another_process_has_is_followed(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    host = AnotherHost(tmp_path, beats=0)
    claim = {"host": this_host(), "pid": os.getppid(), "updated": time.time() - 1}
    host.path.write_text(json.dumps(claim))
    with pytest.raises(ConfigError), hold(tmp_path, witness=Witness(host.now), wait=host.wait):
        pass
    assert host.seconds == 0, "it has just been heard"
    claim["updated"] -= STALE_SECONDS
    host.path.write_text(json.dumps(claim))
    with hold(tmp_path, witness=Witness(host.now), wait=host.wait):
        assert host.seconds > STALE_SECONDS


class AnotherHost:
    """Its clock is days ahead; it writes its claim a few times while we wait, and is gone then."""

    def __init__(self, folder, beats):
        self.path, self.beats, self.seconds = folder / "claim.json", beats, 0.0
        self.write()

    def now(self):
        return self.seconds

    def wait(self, seconds):
        self.seconds += seconds
        if self.beats:
            self.beats -= 1
            self.write()

    def write(self):
        claim = {"host": "another-host", "pid": 1, "updated": time.time() + 864_000 + self.seconds}
        self.path.write_text(json.dumps(claim))


def test_a_controller_on_another_host_is_watched_and_left_alone_if_it_lives(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    host = AnotherHost(tmp_path, beats=1)
    with (
        pytest.raises(ConfigError, match="process 1 on another-host is working there"),
        hold(tmp_path, witness=Witness(host.now), wait=host.wait),
    ):
        pass
    assert host.seconds < 10


def test_a_controller_on_another_host_that_was_killed_is_followed(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    host = AnotherHost(tmp_path, beats=0)
    with hold(tmp_path, witness=Witness(host.now), wait=host.wait):
        assert STALE_SECONDS < host.seconds < STALE_SECONDS + 10
