"""What runs inside a SLURM job, without one: the order, the reports, the signals."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from nos_repro.launch.slurm import pack as pack_module
from nos_repro.launch.slurm.ledger import Ledger
from nos_repro.launch.slurm.pack import MAX_TIMEOUTS, Pack, _Run, _saved
from nos_repro.launch.slurm.submission import _interpreter
from tests.conftest import ROOT


@dataclass(frozen=True)
class Writing:
    """A job that notes that it ran; "break" raises, "hang" hangs."""

    folder: Path
    label: str
    limit_seconds: float | None = None

    @property
    def identity(self):
        return self.label

    def run(self, stop):
        with (self.folder / "ran.txt").open("a") as file:
            file.write(f"{self.label}\n")
        if self.label == "break":
            raise RuntimeError("broken")
        while self.label == "hang":
            time.sleep(0.1)
        return "recorded", f"{self.label} is done"


@dataclass(frozen=True)
class Moving(Writing):
    """A job during which somebody moves a folder."""

    moved: Path = Path()

    def run(self, stop):
        self.moved.rename(self.folder / "elsewhere")
        return super().run(stop)


@pytest.fixture
def batch(tmp_path):
    batch = Ledger(tmp_path / "slurm").new("tiny", [["a", "break", "c"]])
    batch.array = "71"
    batch.save()
    return batch


def pack(batch, jobs, **changes):
    values = {"threads": 1, "minutes": 60, "signal_seconds": 60, **changes}
    return Pack(batch.folder, 0, jobs, **values)


def jobs(tmp_path, *labels):
    return [Writing(tmp_path, label) for label in labels]


def ran(tmp_path):
    return (tmp_path / "ran.txt").read_text().split()


def test_jobs_run_one_after_the_other_and_one_that_breaks_ends_only_itself(batch, tmp_path):
    pack(batch, jobs(tmp_path, "a", "break", "c"))()
    batch.look()
    outcomes = [batch.messages[0, place].outcome for place in range(3)]
    assert outcomes == ["recorded", "lost", "recorded"]
    assert batch.messages[0, 1].message == "RuntimeError: broken"
    assert ran(tmp_path) == ["a", "break", "c"]
    assert batch.begun == {0}
    assert batch.open == []


def test_a_pack_that_is_started_again_continues_after_the_jobs_that_reported(batch, tmp_path):
    pack(batch, jobs(tmp_path, "a", "break"))()
    pack(batch, jobs(tmp_path, "a", "break", "c"))()
    assert ran(tmp_path) == ["a", "break", "c"]


def test_a_pack_that_was_given_up_exits_at_once(batch, tmp_path):
    batch.close(0, "submitted elsewhere")
    assert pack(batch, jobs(tmp_path, "a"))() == "given up elsewhere"
    assert not (tmp_path / "ran.txt").exists()


def test_a_pack_whose_results_were_moved_makes_no_second_folder(batch, tmp_path):
    """Whether they are moved before it starts or while it runs."""
    folder = batch.folder.parent
    moving = Moving(tmp_path, "a", None, folder)
    assert pack(batch, [moving, *jobs(tmp_path, "c")])() == "the results were moved"
    assert pack(batch, jobs(tmp_path, "c"))() == "the results were moved"
    assert not folder.exists()
    assert ran(tmp_path) == ["a"]


def test_a_job_that_hangs_ends_the_process_and_says_why(batch, tmp_path):
    program = f"""
from pathlib import Path
from nos_repro.launch.slurm.pack import Pack
from tests.launch.test_pack import Writing
hang = Writing(Path({str(tmp_path)!r}), "hang", 0.3)
Pack(Path({str(batch.folder)!r}), 0, [hang], threads=1, minutes=60, signal_seconds=60)()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=120)
    assert done.returncode == 1
    batch.look()
    assert batch.messages[0, 0].outcome == "overran"
    assert batch.is_closed(0)  # later jobs are queued again and not blamed


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 on fork
def test_processes_that_a_job_forks_ignore_the_signals(batch, tmp_path):
    """Such as DataLoader's workers: SLURM signals all processes of a job."""
    attempt = _Run(pack(batch, []))
    with attempt._signals():
        child = os.fork()
        if child == 0:
            time.sleep(0.5)
            os._exit(7 if attempt.signals else 0)
        time.sleep(0.1)
        for number in (signal.SIGUSR2, signal.SIGTERM):
            os.kill(child, number)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert not attempt.stop.is_set()
        os.kill(os.getpid(), signal.SIGUSR2)
        assert attempt.stop.is_set()
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_time_outs_without_anything_new_saved_are_counted_and_end_the_job(batch, tmp_path):
    (job,) = jobs(tmp_path, "a")
    attempt = _Run(pack(batch, [job], minutes=1, signal_seconds=30))
    for number in range(MAX_TIMEOUTS):
        assert attempt._timeouts(0, job) == number
        attempt._note_timeout(0, job, left=20)
    pack(batch, [job], minutes=1, signal_seconds=30)()
    batch.look()
    assert batch.messages[0, 0].outcome == "timed_out"
    assert "raise launcher.hours" in batch.messages[0, 0].message
    assert not (tmp_path / "ran.txt").exists()


def test_a_new_checkpoint_resets_the_count_of_time_outs(batch, tmp_path):
    (job,) = jobs(tmp_path, "a")
    attempt = _Run(pack(batch, [job], minutes=1, signal_seconds=30))
    for _ in range(2):
        attempt._note_timeout(0, job, left=20)
    (tmp_path / "checkpoint.pt").write_bytes(b"new")
    assert _saved(job) > 0
    assert attempt._timeouts(0, job) == 0


def test_preemption_long_before_the_limit_is_not_a_time_out(batch, tmp_path):
    (job,) = jobs(tmp_path, "a")
    attempt = _Run(pack(batch, [job], minutes=60, signal_seconds=60))
    attempt._note_timeout(0, job, left=3000)
    attempt._note_timeout(0, job, left=None)  # SLURM does not say, so the clock decides
    assert attempt._timeouts(0, job) == 0


def test_what_a_pack_leaves_behind_is_json_that_says_where_it_ran(batch, tmp_path):
    pack(batch, [])()
    note = json.loads((batch.reports / "0.begun").read_text())
    assert note["host"]


def test_a_pack_notices_by_itself_when_its_time_is_over(batch, tmp_path, monkeypatch):
    """SLURM's warning may have come before the process could handle it."""
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    monkeypatch.setattr(pack_module, "own_state", lambda task: ("RUNNING", 60.1))
    attempt = _Run(pack(batch, [], signal_seconds=60))
    attempt._watch_the_clock()
    assert attempt.stop.wait(10)
    assert attempt.signals == [signal.SIGUSR2]


def test_a_warning_that_comes_while_python_starts_does_not_end_it():
    program = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('alive')"
    command = f"{_interpreter(None)} -c {shlex.quote(program)}"
    assert subprocess.run(command, shell=True, capture_output=True, text=True).stdout == "alive\n"
