"""The one driver of jobs: each is run, each is reported once, whatever happens to its worker."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import pytest

from nos_repro.experiments.files import StoreError
from nos_repro.launch import driver
from nos_repro.launch.base import Report
from nos_repro.launch.driver import MAX_LOST, drive
from nos_repro.launch.local import InProcess


@dataclass(frozen=True)
class Writing:
    """A job whose result is a file."""

    folder: Path
    label: str
    limit_seconds: float | None = None

    @property
    def identity(self):
        return self.label

    @property
    def path(self):
        return self.folder / self.label

    def run(self, stop):
        self.path.write_text("done")
        return "recorded", ""

    def is_done(self):
        return self.path.exists()


class Fated:
    """Two workers. The n-th job handed over ends as ``fates`` says; it writes a result if that is
    "recorded" or "dies later"."""

    word = "running"

    def __init__(self, *fates):
        self.fates = deque(fates)
        self.running = []
        self.submitted = []

    @property
    def free(self):
        return 2 - len(self.running)

    def submit(self, job):
        assert self.free
        self.running.append(job)
        self.submitted.append(job.label)

    def wait(self, seconds):
        reports = []
        for job in self.running:
            fate = self.fates.popleft() if self.fates else "recorded"
            if fate in ("recorded", "dies later"):
                job.run(lambda: False)
            reports.append(Report(job, "lost" if fate == "dies later" else fate, "so it was fated"))
        self.running = []
        return reports

    def close(self):
        return []


def driven(tmp_path, launcher, *labels, notes=None):
    """(label, outcome) of each report, in order."""
    jobs = iter([Writing(tmp_path, label) for label in labels])
    note = [].append if notes is None else notes.append
    return [(r.job.label, r.outcome) for r in drive(lambda: jobs, launcher, note)]


def test_every_job_is_run_and_reported_once(tmp_path):
    wanted = [(label, "recorded") for label in "abcde"]
    assert sorted(driven(tmp_path, Fated(), *"abcde")) == wanted
    assert sorted(driven(tmp_path, InProcess(), *"abcde")) == wanted


def test_a_job_whose_worker_vanishes_is_tried_again_with_a_message(tmp_path):
    notes = []
    launcher = Fated("lost", "lost")
    assert driven(tmp_path, launcher, "a", notes=notes) == [("a", "recorded")]
    assert launcher.submitted == ["a", "a", "a"]
    assert notes == ["a: so it was fated; tried again"] * 2


def test_a_job_that_loses_every_worker_is_reported_as_lost_and_holds_up_no_other(tmp_path):
    launcher = Fated(*["lost", "recorded"], *["lost"] * (MAX_LOST - 1))
    assert sorted(driven(tmp_path, launcher, "a", "b")) == [("a", "lost"), ("b", "recorded")]
    assert launcher.submitted.count("a") == MAX_LOST


def test_a_worker_that_dies_with_the_result_on_disk_has_done_its_work(tmp_path):
    launcher = Fated("dies later")
    assert driven(tmp_path, launcher, "a") == [("a", "recorded")]
    assert launcher.submitted == ["a"]


def test_a_result_that_never_appears_on_disk_counts_as_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "APPEARS_SECONDS", 0.0)
    monkeypatch.setattr(Writing, "run", lambda self, stop: ("recorded", ""))
    assert driven(tmp_path, Fated(), "a") == [("a", "lost")]


def test_a_job_that_saves_its_state_and_stops_is_continued_every_time(tmp_path):
    launcher = Fated(*["stopped"] * (2 * MAX_LOST))
    assert driven(tmp_path, launcher, "a") == [("a", "recorded")]


def test_a_disk_that_fails_stops_everything(tmp_path):
    with pytest.raises(StoreError, match="so it was fated"):
        driven(tmp_path, Fated("blocked"), *"ab")


def test_jobs_are_requested_only_while_the_launcher_takes_more(tmp_path):
    launcher = Fated()

    def ready():
        for label in labels:
            assert launcher.free, "asked for a job that nobody can take"
            yield Writing(tmp_path, label)

    labels = iter("abcdefg")
    assert len(list(drive(ready, launcher, print))) == 7


def test_a_source_may_have_ended_jobs_checked_before_it_continues(tmp_path):
    ended, asked = [], []

    def ready():
        asked.append(list(ended))
        if len(asked) == 1:
            yield Writing(tmp_path, "a")
            yield None
        elif len(asked) == 2:
            yield Writing(tmp_path, "b")

    for report in drive(ready, Fated(), print):
        ended.append(report.job.label)
    assert asked == [[], ["a"], ["a", "b"]]
