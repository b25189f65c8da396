"""Studies on a real SLURM: whatever happens to jobs, nodes, daemons and front ends, the numbers are
those of an undisturbed run on this machine, byte for byte, and nothing is trained twice at once."""

import getpass
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.launch.slurm_lab import (
    ENVIRONMENT,
    LAUNCHER,
    LONG,
    WITH_ELSEWHERE,
    Witness,
    front_end,
    metrics,
    on_slurm,
    records,
    run,
    tasks,
    training,
    trials,
    wait_for,
    write_study,
)

pytestmark = [on_slurm, pytest.mark.slow]
OFTEN = ("--checkpoint-seconds", "0.5")


TOGETHER = {
    **LONG,
    "task": {"name": "tests.experiments.replicated", "dropout": 0.0},
    "training": {"epochs": 500, "evaluate_every": 50, "gradient_norm": 1.0},
    "launcher": {},
    "sweep": {"lr": [0.02]},
    "rows": {"PowerSign": {"optimizer": "powersign-ld"}, "Adam": {"optimizer": "adam"}},
}


def made_here(folder, study=None):
    config = write_study(folder, **({"study": study} if study else {}))
    done = run("run", config, folder / "results", "--workers", "2")
    assert done.returncode == 0, done.stderr
    return folder / "results"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The study of eighteen trials, run by worker processes on this machine."""
    return made_here(tmp_path_factory.mktemp("local"), WITH_ELSEWHERE)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The metrics of the two long trials when nothing happens to them."""
    return metrics(made_here(tmp_path_factory.mktemp("undisturbed"), LONG))


@pytest.fixture
def config(tmp_path):
    return write_study(tmp_path, LONG)


@pytest.fixture
def results(tmp_path):
    """An empty folder; jobs that a test leaves on the cluster are cancelled."""
    yield tmp_path / "results"
    subprocess.run(["scancel", f"--user={os.getuid()}"], check=False)
    wait_for(lambda: not tasks("PENDING", "RUNNING", "COMPLETING"), 60)


@pytest.mark.parametrize("per_job", [1, 4])
def test_a_study_as_an_array_has_the_records_that_it_has_on_this_machine(
    tmp_path, results, local, per_job
):
    most = 0
    words = (*LAUNCHER, "launcher.array_parallelism=2", f"launcher.trials_per_job={per_job}")
    with front_end(write_study(tmp_path, WITH_ELSEWHERE), results, *words) as front:
        while front.running():
            most = max(most, len(tasks("RUNNING")))
            time.sleep(0.2)
        front.end()
    assert len(records(local)) == 18
    assert records(results) == records(local)
    assert metrics(results) == metrics(local)
    assert most == 2


def test_a_job_that_is_told_to_leave_saves_and_is_queued_again(config, results, undisturbed):
    words = (*LAUNCHER, *OFTEN, "--wandb", "offline")
    with Witness(results), front_end(config, results, *words) as front:
        wait_for(lambda: training(results))
        for job in tasks("RUNNING"):
            subprocess.run(["scancel", "--signal=USR2", job], check=True)
        said = front.end()
    assert metrics(results) == undisturbed
    assert "lost" not in said
    runs = [path.name for path in trials(results).parent.glob("wandb/offline-run-*")]
    assert len(runs) > 2  # a part for each attempt,
    ids = {run.split("-", maxsplit=3)[3] for run in runs}  # after offline-run-DATE
    assert {id_.split("-")[-2] for id_ in ids} == metrics(results).keys()
    assert len(ids) == len(metrics(results)), "one id per trial, whatever its attempts"
    assert any("SIGUSR2" in log for log in logs(results))


@pytest.mark.drill
def test_a_job_that_is_told_to_end_by_hand_saves_and_is_queued_again(config, results, undisturbed):
    with Witness(results), front_end(config, results, *LAUNCHER, *OFTEN) as front:
        (pid, *_) = wait_for(lambda: training(results))
        os.kill(pid, signal.SIGTERM)
        front.end()
    assert metrics(results) == undisturbed


@pytest.mark.parametrize("partition", ["scavenge", "rude"])
def test_a_preempted_job_continues_when_there_is_room(config, results, undisturbed, partition):
    """Once with a grace time and a signal, once with neither."""
    if partition not in subprocess.run(["sinfo"], capture_output=True, text=True).stdout:
        pytest.skip(f"no preemptible partition '{partition}' here")
    words = (*LAUNCHER, *OFTEN, f"launcher.partition={partition}")
    with Witness(results), front_end(config, results, *words) as front:
        wait_for(lambda: training(results))
        urgent = ["sbatch", "--exclusive", "--wrap=sleep 1", "--output=/dev/null"]
        subprocess.run(urgent, check=True)
        said = front.end()
    assert metrics(results) == undisturbed
    assert "lost" not in said


@pytest.mark.drill
def test_trials_longer_than_a_job_s_time_limit_continue_in_the_next(tmp_path, results):
    """A one-minute job, warned half-way or earlier, with half-minute trials."""
    study = {**LONG, "training": {"epochs": 500, "evaluate_every": 10}}
    undisturbed = metrics(made_here(tmp_path, study))
    limit = ("launcher.hours=0.016", "launcher.signal_seconds=30")
    config = tmp_path / "tiny.yaml"
    left = results / "on_slurm"
    with Witness(left), front_end(config, left, *LAUNCHER, *limit, *OFTEN) as front:
        said = front.end()
    assert metrics(left) == undisturbed
    assert "lost" not in said
    assert sum("Requeued job" in log for log in logs(left)) == 2  # the array's last one, too


def test_a_trial_whose_process_is_killed_is_submitted_again(config, results, undisturbed):
    with Witness(results), front_end(config, results, *LAUNCHER, *OFTEN) as front:
        (pid, *_) = wait_for(lambda: training(results))
        os.kill(pid, signal.SIGKILL)
        said = front.end()
    assert metrics(results) == undisturbed
    assert "ended without a message" in said
    assert "Killed" in said  # srun's message, at the end of the log


@pytest.mark.drill
def test_a_node_that_is_drained_and_one_that_fails_only_hold_trials_up(
    config, results, undisturbed
):
    def node(state, check=True):
        words = ["scontrol", "update", "NodeName=ALL", f"State={state}"]
        reason = [] if state == "resume" else ["Reason=test"]
        subprocess.run([*words, *reason], check=check, capture_output=True)

    words = (*LAUNCHER, "launcher.array_parallelism=1", *OFTEN)
    try:
        with Witness(results), front_end(config, results, *words) as front:
            wait_for(lambda: training(results))
            node("drain")
            wait_for(lambda: len(metrics(results)) and not tasks("RUNNING"))
            assert tasks("PENDING")
            node("resume")
            wait_for(lambda: training(results))
            node("down")
            node("drain")  # or SLURM may bring it back itself, while the old job still ends
            wait_for(lambda: not training(results) and not tasks("RUNNING"))
            wait_for(
                lambda: subprocess.run(["pgrep", "slurmstepd"], capture_output=True).returncode
            )
            node("resume")
            front.end()
    finally:
        node("resume", check=False)  # it is an error where the node is up
    assert metrics(results) == undisturbed


@pytest.mark.drill
def test_a_slurm_controller_that_dies_and_comes_back_is_waited_for(config, results, undisturbed):
    words = (*LAUNCHER, "launcher.array_parallelism=1", *OFTEN)
    with Witness(results), front_end(config, results, *words) as front:
        wait_for(lambda: training(results))
        subprocess.run(["pkill", "--signal", "KILL", "--exact", "slurmctld"], check=True)
        time.sleep(5)
        subprocess.run(["slurmctld", "-f", os.environ["SLURM_CONF"]], check=True)
        front.end()
    assert metrics(results) == undisturbed


def test_trials_continue_without_their_front_end_and_the_next_one_waits_for_them(
    config, results, undisturbed
):
    with Witness(results):
        with front_end(config, results, *LAUNCHER, *OFTEN) as front:
            wait_for(lambda: training(results))
            front.kill()
        jobs = set(tasks("RUNNING", "PENDING"))
        assert jobs
        with front_end(config, results, *LAUNCHER, *OFTEN) as front:
            seen = set()
            while front.running():
                seen |= set(tasks("RUNNING", "PENDING"))
                time.sleep(0.2)
            front.end()
    assert seen <= jobs
    assert metrics(results) == undisturbed


def test_a_detached_run_says_what_is_queued_and_never_queues_it_twice(config, results):
    words = (*LAUNCHER, "launcher.sbatch.hold=true")
    first = run("run", config, results, *words, "--detach")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("2 trials are queued or running in SLURM's ")
    jobs = tasks("RUNNING", "PENDING")
    assert len(jobs) == 2
    assert run("run", config, results, *words, "--detach").stdout.startswith("2 trials are")
    assert tasks("RUNNING", "PENDING") == jobs
    said = run("status", config, results).stdout
    assert all(f"queued as {job} (JobHeldUser" in said for job in jobs)
    assert "0 of 2 trials have ended: 0 running, 2 queued, 0 not begun" in said


@pytest.mark.drill
def test_a_job_that_slurm_will_not_start_is_said_to_be_so_and_why(config, results):
    partition = ["scontrol", "update", "PartitionName=debug"]
    reason = "PartitionDown, which does not pass by itself: "
    subprocess.run([*partition, "State=DOWN"], check=True)
    try:
        with front_end(config, results, *LAUNCHER) as front:
            wait_for(
                lambda: "PartitionDown, which does not pass by itself" in front.log.read_text()
            )
            said = run("status", config, results).stdout
            assert said.count(f"({reason}") == 2
            subprocess.run([*partition, "State=UP"], check=True)
            wait_for(lambda: training(results))
    finally:
        subprocess.run([*partition, "State=UP"], check=True)


@pytest.fixture
def at_most_four_jobs(tmp_path):
    """A SLURM that lets this user queue four jobs at a time."""

    def controller(conf):
        subprocess.run(["pkill", "--exact", "slurmctld"], check=True)
        wait_for(lambda: subprocess.run(["pgrep", "-x", "slurmctld"]).returncode, 60)
        subprocess.run(["slurmctld", "-f", conf], check=True)
        wait_for(lambda: not subprocess.run(["sinfo"], capture_output=True).returncode, 60)

    def manager(*words):
        said = subprocess.run(["sacctmgr", "-i", *words], capture_output=True, text=True)
        return not said.returncode or "Nothing new" in said.stdout

    user = getpass.getuser()
    if not manager("add", "account", "test") or not manager("add", "user", user, "account=test"):
        pytest.skip("no slurmdbd, which knows the limits")
    manager("modify", "user", user, "set", "MaxSubmitJobs=4")
    usual = os.environ["SLURM_CONF"]
    strict = tmp_path / "slurm.conf"
    strict.write_text(Path(usual).read_text() + "AccountingStorageEnforce=limits\n")
    controller(strict)
    yield
    manager("modify", "user", user, "set", "MaxSubmitJobs=-1")
    controller(usual)


@pytest.mark.drill
def test_a_limit_of_queued_jobs_is_filled_and_what_is_not_queued_is_said(
    tmp_path, results, local, at_most_four_jobs
):
    config = write_study(tmp_path)
    detached = run("run", config, results, *LAUNCHER, "launcher.sbatch.hold=true", "--detach")
    assert detached.returncode == 0, detached.stderr
    assert detached.stdout.startswith("4 trials are queued or running in SLURM's ")
    assert "4 trials are NOT queued: SLURM takes no more jobs now (AssocMaxSubmitJobLimit)" in (
        detached.stdout
    )
    assert len(tasks("PENDING")) == 4
    said = run("status", config, results).stdout
    assert "0 running, 4 queued, 8 not begun" in said
    assert said.count("JobHeldUser") == 4
    subprocess.run(["scontrol", "release", *tasks("PENDING")], check=True)
    with front_end(config, results, *LAUNCHER) as front:
        front.end()
    assert records(results).items() <= records(local).items()


def test_cancel_ends_what_the_study_has_queued_and_nothing_else(config, tmp_path, results):
    other = subprocess.run(
        ["sbatch", "--parsable", "--wrap=sleep 600", "--output=/dev/null"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout.strip()  # fmt: skip
    slowly = "launcher.setup=[sleep 60]"  # no trial is to end before the cancel
    assert run("run", config, results, *LAUNCHER, slowly, "--detach").returncode == 0
    assert len(tasks("RUNNING", "PENDING")) == 3
    said = run("cancel", config, results)
    assert said.stdout.startswith("2 jobs cancelled: "), said.stderr
    wait_for(lambda: tasks("RUNNING", "PENDING", "COMPLETING") == [other], 60)
    assert run("cancel", config, results).stdout == "0 jobs cancelled\n"


@pytest.mark.drill
def test_a_job_that_a_user_cancels_is_not_queued_again_in_this_run(config, results):
    with front_end(config, results, *LAUNCHER, "launcher.array_parallelism=1") as front:
        wait_for(lambda: training(results) or len(tasks("RUNNING")))
        for job in tasks("RUNNING", "PENDING"):
            subprocess.run(["scancel", job], check=True)
        said = front.end(status=1)
    assert said.count("it was cancelled; given up for this run") == 2


@pytest.mark.drill
def test_a_trial_that_needs_too_much_memory_is_named_and_tried_a_few_times_only(config, results):
    short = ("launcher=slurm", "launcher.memory_gb=0.3", "launcher.poll_seconds=1")
    said = run("run", config, results, *short)
    assert "out of memory (0.3 GB asked for): raise launcher.memory_gb" in said.stderr
    assert "exceeded memory limit" in said.stderr
    assert not tasks("RUNNING", "PENDING")
    if "before its first line" in said.stderr:  # SLURM looks only every few seconds
        assert said.returncode == 2
    else:
        assert said.returncode == 1
        assert said.stderr.count("tried again") == 4
        assert said.stderr.count("given up for this run") == 2


@pytest.mark.drill
def test_what_breaks_before_the_first_line_stops_the_run_with_the_end_of_its_log(config, results):
    said = run("run", config, results, *LAUNCHER, "launcher.setup=[exit 3]")
    assert said.returncode == 2
    assert "ended before its first line" in said.stderr
    assert "launcher.setup" in said.stderr


@pytest.mark.drill
def test_an_exception_of_ours_is_a_record_with_its_traceback_and_tried_again_when_asked(
    tmp_path, results
):
    broken = ["export RANK=0", "export TROUBLE='0 raises'"]
    config = write_study(tmp_path, TOGETHER, launcher={"setup": broken})
    with front_end(config, results, *LAUNCHER) as front:
        said = front.end(status=1)
    assert said.count("failed (ValueError: broke on purpose)") == 2
    assert {record["status"] for record in records(results).values()} == {"failed"}
    assert "broke on purpose" in run("status", config, results).stdout
    write_study(tmp_path, TOGETHER)
    with front_end(config, results, *LAUNCHER, "training.epochs=100", "--retry") as front:
        front.end()


@pytest.mark.drill
def test_a_partition_that_does_not_exist_is_one_error_and_nothing_is_queued(config, results):
    said = run("run", config, results, *LAUNCHER, "launcher.partition=nowhere")
    assert said.returncode == 2
    assert "sbatch refuses the jobs" in said.stderr
    assert "partition" in said.stderr
    assert "Traceback" not in said.stderr
    assert not tasks("RUNNING", "PENDING")


def test_gpus_are_requested_and_each_job_has_its_own(tmp_path, results):
    """The GPUs are only declared, as character devices: enough for the scheduler."""
    most = 0
    devices = tmp_path / "devices"
    setup = [f'echo "$CUDA_VISIBLE_DEVICES" >> {devices}', "unset CUDA_VISIBLE_DEVICES"]
    config = write_study(tmp_path, launcher={"gpus": 1, "partition": "gpu", "setup": setup})
    words = (*LAUNCHER, "--rows", "PowerSign")
    with front_end(config, results, *words) as front:
        while front.running():
            most = max(most, len(tasks("RUNNING")))
            time.sleep(0.2)
        front.end()
    assert most == 2  # four jobs at first, two GPUs
    assert set(devices.read_text().split()) == {"0", "1"}


@pytest.mark.drill
@pytest.mark.parametrize("processes", [1, 2])
def test_a_probe_times_the_models_on_the_cluster_and_leaves_no_trial(tmp_path, results, processes):
    config = write_study(tmp_path, TOGETHER)
    words = ("launcher.memory_gb=3", "launcher.poll_seconds=1", f"launcher.processes={processes}")
    said = run("run", config, results, "launcher=slurm", *words, "--dry-run", "--probe")
    assert said.returncode == 0, said.stderr
    assert "measured: a few timed steps in a job on the cluster (" in said.stdout
    assert "CPU-hours to run" in said.stdout
    assert not trials(results).exists()


@pytest.mark.drill
def test_a_probe_that_sees_no_gpu_gives_no_gpu_hours(config, results):
    """The GPUs are only declared here."""
    words = (*LAUNCHER, "launcher.gpus=1", "launcher.partition=gpu", "--dry-run", "--probe")
    said = run("run", config, results, *words)
    assert said.returncode == 2
    assert "its PyTorch saw none" in said.stderr
    assert "GPU-hours" not in said.stdout


def test_two_tasks_train_one_trial_as_one_process_does_with_the_same_batches(tmp_path, results):
    config = write_study(tmp_path, TOGETHER)
    here = tmp_path / "here"
    assert run("run", config, here, "--workers", "1").returncode == 0
    words = (*LAUNCHER, "launcher.processes=2", "launcher.memory_gb=3", "launcher.trials_per_job=2")
    left_alone = results / "left_alone"
    with front_end(config, left_alone, *words) as front:
        front.end()
    for trial, record in records(here).items():
        other = records(left_alone)[trial]
        assert other["provenance"]["processes"] == 2
        for point, same in zip(record["metrics"], other["metrics"], strict=True):
            assert same == pytest.approx(point, rel=1e-9)
    disturbed = results / "disturbed"
    with Witness(disturbed), front_end(config, disturbed, *words, *OFTEN) as front:
        wait_for(lambda: training(disturbed))
        for job in tasks("RUNNING"):
            subprocess.run(["scancel", "--signal=USR2", job], check=True)
        assert "lost" not in front.end()
    assert metrics(disturbed) == metrics(left_alone)
    assert any("SIGUSR2" in log for log in logs(disturbed))


def test_a_search_of_nested_jobs_survives_its_own_time_limit(tmp_path, results):
    done = subprocess.run(
        [
            "sbatch", "--parsable", "--time=2", "--signal=B:USR2@25", "--mem=3G",
            f"--output={tmp_path}/log", f"--chdir={ROOT}", "slurm/search.sh", "configs/search.yaml",
            "--scale", "smoke", "--results", str(results), *LAUNCHER[1:], "samples=15",
            "launcher.array_parallelism=2", "launcher.trials_per_job=3",
            "launcher.setup=[sleep 60]",  # longer than the limit, however fast the machine is
        ],
        capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = Path(results, "search/smoke/log.jsonl")
    wait_for(lambda: log.exists() and log.read_text().count('"event":"evaluated"') >= 15)
    wait_for(lambda: not tasks("PENDING", "RUNNING", "COMPLETING"), 120)
    said = (tmp_path / "log").read_text()
    assert "saved" in said
    assert "15/15 draws" in said
    events = [line for line in log.read_text().splitlines() if '"event":"evaluated"' in line]
    assert len(events) == 15


def test_the_driver_of_a_table_prints_it_at_its_end(tmp_path, results):
    config = write_study(tmp_path, rows={"PowerSign": {"optimizer": "powersign-ld"}})
    done = subprocess.run(
        [
            "sbatch", "--parsable", "--mem=3G", f"--output={tmp_path}/log", "slurm/table.sh",
            str(config), "--scale", "smoke", "--results", str(results), *LAUNCHER[1:],
            "launcher.trials_per_job=2",
        ],
        capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = tmp_path / "log"
    wait_for(lambda: log.exists() and "A number is mean" in log.read_text())
    assert len(records(results)) == 6


def logs(results):
    """What each job printed, on both streams."""
    said = {}
    for path in trials(results).parent.glob("slurm/*/submitit/*_log.*"):
        said[path.stem] = said.get(path.stem, "") + path.read_text()
    return list(said.values())
