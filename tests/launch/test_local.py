"""Launchers on this machine: what a worker that hangs or breaks costs."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver

import pytest

from nos_repro.experiments.build import Conditions
from nos_repro.experiments.trial import Training
from nos_repro.launch import local, work
from nos_repro.launch.local import InProcess, LocalWorkers, await_workers, worker_context
from nos_repro.launch.work import TrialJob
from tests.conftest import ROOT
from tests.experiments.helpers import digits_trial
from tests.processes import gone


@pytest.fixture
def job(tmp_path):
    trial = digits_trial(training=Training(epochs=10**6))
    return TrialJob(trial, tmp_path / "trial", Conditions(tmp_path))


def test_a_worker_that_hangs_does_not_hold_up_the_end_of_a_run(job, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "SAVE_SECONDS", 1.0)
    launcher = LocalWorkers(workers=1)
    launcher.submit(job)
    (process,) = launcher._slots[0].pool._processes.values()
    deadline = time.monotonic() + 120
    while not (job.folder / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGSTOP)
    reports = launcher.close()
    assert [report.outcome for report in reports] == ["lost"]
    assert not process.is_alive()


def test_a_job_that_overruns_its_time_limit_is_killed_and_its_slot_is_free_again(job, tmp_path):
    launcher = LocalWorkers(workers=1)
    launcher.submit(dataclasses.replace(job, limit_seconds=0.5))
    reports = []
    deadline = time.monotonic() + 120
    while not reports:
        assert time.monotonic() < deadline
        reports = launcher.wait(60)
    assert [report.outcome for report in reports] == ["overran"]
    assert launcher.free == 1
    launcher.submit(dataclasses.replace(job, trial=digits_trial(training=Training(epochs=1))))
    assert [report.outcome for report in launcher.wait(120)] == ["recorded"]
    launcher.close()


def test_a_worker_told_to_stop_from_outside_is_replaced_and_its_job_is_lost(job):
    launcher = LocalWorkers(workers=1)
    launcher.submit(job)
    deadline = time.monotonic() + 120
    while not (job.folder / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (process,) = launcher._slots[0].pool._processes.values()
    os.kill(process.pid, signal.SIGTERM)
    assert [report.outcome for report in launcher.wait(120)] == ["lost"]
    short = dataclasses.replace(job.trial, training=Training(epochs=1))
    launcher.submit(dataclasses.replace(job, trial=short, folder=job.folder.parent / "short"))
    assert [report.outcome for report in launcher.wait(120)] == ["recorded"]
    launcher.close()


def test_closing_asks_what_runs_to_save_and_starts_nothing_else(job, tmp_path):
    launcher = LocalWorkers(workers=2)
    launcher.submit(job)
    deadline = time.monotonic() + 120
    while not (job.folder / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [report.outcome for report in launcher.close()] == ["stopped"]
    assert (job.folder / "checkpoint.pt").exists()


def test_once_closed_the_workers_leave_nothing_to_the_interpreters_exit(job):
    before = set(threading.enumerate())
    launcher = LocalWorkers(workers=2)
    launcher.submit(dataclasses.replace(job, trial=digits_trial(training=Training(epochs=1))))
    launcher.wait(120)
    processes = local._processes(launcher._slots)
    launcher.close()
    assert processes
    assert not any(process.is_alive() for process in processes)
    assert set(threading.enumerate()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux only")
def test_from_their_first_moment_workers_leave_ctrl_c_to_the_parent():
    context = worker_context()
    await_workers(context)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def test_a_second_ctrl_c_kills_what_does_not_end_and_breaks_nothing_off(job):
    launcher = LocalWorkers(workers=1)
    launcher.submit(job)
    (process,) = launcher._slots[0].pool._processes.values()
    deadline = time.monotonic() + 120
    while not (job.folder / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGSTOP)
    usual = signal.getsignal(signal.SIGINT)

    def press():
        while signal.getsignal(signal.SIGINT) is usual:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    impatient = threading.Thread(target=press)
    impatient.start()
    reports = launcher.close()
    impatient.join()
    assert [report.outcome for report in reports] == ["lost"]
    assert not process.is_alive()
    assert signal.getsignal(signal.SIGINT) is usual


@pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux only")
def test_a_fork_server_that_is_killed_is_started_again(job):
    launcher = LocalWorkers(workers=1)
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    short = dataclasses.replace(job.trial, training=Training(epochs=1))
    launcher.submit(dataclasses.replace(job, trial=short))
    assert [report.outcome for report in launcher.wait(120)] == ["recorded"]
    launcher.close()


@pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux only")
def test_a_worker_ends_with_the_fork_server_that_started_it(job):
    """Its job is lost and will be tried again: it must not go on beside the other one."""
    launcher = LocalWorkers(workers=1)
    launcher.submit(job)
    (worker,) = launcher._slots[0].pool._processes
    deadline = time.monotonic() + 120
    while not (job.folder / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    assert [report.outcome for report in launcher.wait(120)] == ["lost"]
    launcher.close()
    assert gone([worker])


@pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux only")
def test_workers_start_where_the_temporary_folder_has_too_long_a_path_for_their_sockets(tmp_path):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    script = (
        "import tempfile\n"
        "from nos_repro.launch.local import await_workers, worker_context\n"
        "await_workers(worker_context())\n"
        "print(tempfile.gettempdir())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.stdout == f"{folder}\n", done.stderr


def test_this_process_takes_one_job_at_a_time(tmp_path):
    trial = digits_trial(training=Training(epochs=1))
    job = TrialJob(trial, tmp_path / "trial", Conditions(tmp_path))
    launcher = InProcess()
    launcher.submit(job)
    assert launcher.free == 0
    assert [report.outcome for report in launcher.wait(0)] == ["recorded"]
    assert launcher.free == 1


def test_what_breaks_outside_the_training_loses_its_trial_and_no_other(job, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise FileNotFoundError("somebody removed the folder")

    monkeypatch.setattr(work, "run_trial", broken)
    launcher = InProcess()
    launcher.submit(job)
    (report,) = launcher.wait(0)
    assert (report.outcome, report.message) == (
        "lost", "FileNotFoundError: somebody removed the folder",
    )  # fmt: skip
