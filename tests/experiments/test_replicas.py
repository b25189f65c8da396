"""Several processes that train one trial: the numbers of one process, one ending, one record."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from nos_repro.errors import ConfigError, LaunchError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import this_host
from nos_repro.experiments.replicas import ALONE, find_environment, joined
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.training import Stopped
from nos_repro.tasks.base import slice_batch
from tests.conftest import ROOT
from tests.experiments.replicated import Data, Settings, stop_after, trial

NOISY = "rule: exp(sign(g)*sign(m)) * (g + noise) + drop(g, 0.3)"
DROPOUT = {"task_settings": {"dropout": 0.5}}
TRIALS = {
    "clipped": {"training": {"epochs": 4, "gradient_norm": 0.1}},
    "noisy": {"optimizer": NOISY, "lr": 0.02, "schedule": "noisy_linear_cosine"},
    "nan": {"task_settings": {"nan_at": 5}},
    "uneven": {"task_settings": {"batch_size": 15}},
    "batch norm": {"task_settings": {"batch_norm": True}},
    "whole": DROPOUT,
    "parts": DROPOUT,
    "paused": DROPOUT,
    "shrinking": {},
    "growing": {},
    "held": {},
}


def entry(name, **more):
    return {"name": name, "trial": TRIALS[name], **more}


PLAN = [
    *(entry(name) for name in ("clipped", "noisy", "nan", "uneven", "batch norm")),
    entry("whole"),
    entry("parts", stop={"1": 5}),
    entry("parts", stop={"0": 2}),
    entry("parts"),
    entry("paused", until=2),
    entry("paused"),
    entry("shrinking", stop={"1": 5}),
    entry("growing"),
    entry("held"),
    entry("whole"),
]
WIDE = {"training": {"epochs": 2}, "task_settings": {"batch_size": 12, "width": 200}}
THREE = [
    {"name": "whole", "trial": WIDE},
    {"name": "parts", "trial": WIDE, "stop": {"2": 5}},
    {"name": "parts", "trial": WIDE},
]
BREAKS = [entry("growing"), entry("whole")]
UNSEEN = [{"name": "growing", "trial": WIDE}]
# fmt: off
CASES = {
    "pair":          {"world": 2, "trouble": "",           "plan": PLAN},
    "three":         {"world": 3, "trouble": "",           "plan": THREE},
    "one breaks":    {"world": 2, "trouble": "1 breaks",   "plan": BREAKS},
    "leader breaks": {"world": 2, "trouble": "0 breaks",   "plan": BREAKS[:1]},
    "one vanishes":  {"world": 2, "trouble": "1 vanishes", "plan": BREAKS[:1]},
    "killed unseen": {"world": 3, "trouble": "1 is killed unseen", "plan": UNSEEN},
    "third breaks":  {"world": 3, "trouble": "2 breaks",   "plan": UNSEEN},
    "each breaks":   {"world": 3, "trouble": "each breaks, others hear late", "plan": UNSEEN},
}
# fmt: on


def answers(folder, name):
    """What each process reported about the trial, a pair for each time that it ran."""
    found = {}
    for path in folder.glob(f"{name}.*.json"):
        _, number, rank, _ = path.name.split(".")
        found.setdefault(int(number), {})[rank] = json.loads(path.read_text())
    return [(found[number].get("0"), found[number].get("1")) for number in sorted(found)]


def record(folder):
    return json.loads((folder / "record.json").read_text())


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["model"]


def alone(name, folder, stop=None):
    return run_trial(trial(**TRIALS[name]), folder, Conditions(folder), stop=stop_after(stop))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder for each of CASES, after its processes have run it, and their exit statuses."""
    folder = tmp_path_factory.mktemp("cases")
    pair = folder / "pair"
    with pytest.raises(Stopped):
        alone("growing", pair / "growing", stop=5)
    claim = {"host": this_host(), "pid": os.getpid(), "updated": time.time() + 1000}
    (pair / "held").mkdir()
    (pair / "held" / "claim.json").write_text(json.dumps(claim))
    (folder / "cases.json").write_text(json.dumps(CASES))
    for name in CASES:
        (folder / name).mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "tests.experiments.replicated", str(folder)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300, check=True,
    )  # fmt: skip
    return folder, json.loads((folder / "statuses.json").read_text())


@pytest.fixture
def pair(cases):
    folder, statuses = cases
    errors = [path.read_text() for path in (folder / "pair").glob("error.*")]
    assert (statuses["pair"], errors) == ([0, 0], [])
    return folder / "pair"


@pytest.fixture
def case(cases):
    """The folder of a case and the exit statuses of its processes, by the case's name."""
    folder, statuses = cases
    return lambda name: (folder / name, statuses[name])


def assert_same_training(one, two):
    mine, theirs = record(one), record(two)
    assert (mine["status"], mine["steps"]) == (theirs["status"], theirs["steps"])
    assert len(mine["metrics"]) == len(theirs["metrics"]) > 0
    for own, other in zip(mine["metrics"], theirs["metrics"], strict=True):
        assert own == pytest.approx(other, rel=1e-11, abs=0)
    assert weights(one).keys() == weights(two).keys()
    for key, value in weights(one).items():
        torch.testing.assert_close(value, weights(two)[key], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["clipped", "noisy"])
def test_two_processes_train_as_one_does_at_the_same_global_batch(pair, name, tmp_path):
    alone(name, tmp_path)
    assert_same_training(pair / name, tmp_path)
    assert answers(pair, name) == [("recorded", "recorded")]
    assert record(pair / name)["provenance"]["processes"] == 2


def test_a_stop_that_one_process_receives_saves_and_ends_both(pair):
    stopped = ("stopped", "stopped")
    assert answers(pair, "parts") == [stopped, stopped, ("recorded", "recorded")]


@pytest.mark.parametrize("name", ["parts", "paused"])
def test_a_run_resumed_by_two_processes_is_the_run_that_never_stopped(pair, name):
    whole = (pair / "whole" / "metrics.jsonl").read_bytes()
    assert (pair / name / "metrics.jsonl").read_bytes() == whole
    for key, value in weights(pair / name).items():
        assert torch.equal(value, weights(pair / "whole")[key])


def test_a_resumed_run_of_three_processes_is_to_the_bit_the_one_that_never_stopped(case):
    """A sum of three gradients depends on the order in which they are added."""
    folder, statuses = case("three")
    assert statuses == [0, 0, 0]
    for key, value in weights(folder / "parts").items():
        assert torch.equal(value, weights(folder / "whole")[key])


def test_the_slices_of_a_batch_do_not_share_their_dropout(pair):
    saved = torch.load(pair / "whole" / "checkpoint.pt", weights_only=True)
    (other,) = saved["random_of_others"]
    assert not torch.equal(saved["random"]["cpu"], other["cpu"])


def test_one_process_resumes_the_checkpoint_of_two_and_two_that_of_one(pair, tmp_path):
    alone("growing", tmp_path)
    assert_same_training(pair / "growing", tmp_path)
    assert answers(pair, "shrinking") == [("stopped", "stopped")]
    assert alone("shrinking", pair / "shrinking") == ("recorded", [])
    assert_same_training(pair / "shrinking", tmp_path)


def test_a_loss_that_is_not_a_number_in_one_process_is_a_divergence_of_both(pair, tmp_path):
    alone("nan", tmp_path)
    assert record(pair / "nan")["status"] == record(tmp_path)["status"] == "diverged"
    assert record(pair / "nan")["steps"] == record(tmp_path)["steps"] == 5
    assert answers(pair, "nan") == [("recorded", "recorded")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("uneven", "task.batch_size must be a multiple of the 2 processes that share a batch"),
        ("batch norm", "a model with batch norm trains on 2 processes only with GPUs"),
    ],
)
def test_what_two_processes_cannot_train_is_one_clear_error_before_the_first_step(
    pair, name, reason
):
    assert answers(pair, name) == [("recorded", "recorded")]
    failed = record(pair / name)
    assert (failed["status"], failed["steps"]) == ("failed", 0)
    assert failed["reason"].startswith(reason)


def test_a_trial_that_is_held_or_recorded_is_so_for_all(pair):
    assert answers(pair, "held") == [("held", "held")]
    assert answers(pair, "whole") == [("recorded", "recorded")] * 2


def test_the_leader_alone_writes(pair):
    assert {path.name for path in (pair / "whole").iterdir()} == {
        "checkpoint.pt", "code.txt", "metrics.jsonl", "record.json"
    }  # fmt: skip


def test_an_exception_in_one_process_is_a_failed_record_that_names_it(case):
    folder, statuses = case("one breaks")
    assert statuses == [1, 1]
    assert answers(folder, "growing") == [("recorded", "ValueError: broke on purpose")]
    failed = record(folder / "growing")
    assert failed["status"] == "failed"
    assert failed["reason"] == "process 1 of 2 failed: ValueError: broke on purpose"
    assert "in trouble" in failed["traceback"]
    assert "broke on purpose" in (folder / "growing" / "log.1.txt").read_text()
    ((leader, _),) = answers(folder, "whole")
    assert leader.startswith("LaunchError: the processes parted in an earlier trial (process 1")


def test_an_exception_in_the_leader_is_recorded_and_holds_up_no_other_process(case):
    """Whether the other process still receives the leader's last message is a matter of luck."""
    folder, statuses = case("leader breaks")
    assert statuses[0] == 0
    assert record(folder / "growing")["reason"] == "ValueError: broke on purpose"
    ((leader, other),) = answers(folder, "growing")
    assert leader == "recorded"
    assert other in ("recorded", "LaunchError: the leading process is silent, or gone")


def test_a_process_that_vanishes_means_a_lost_trial_and_not_a_failed_one(case):
    folder, statuses = case("one vanishes")
    assert statuses == [1, 9]
    ((leader, _),) = answers(folder, "growing")
    assert leader.startswith("LaunchError: one of the trial's 2 processes fell silent")
    assert not (folder / "growing" / "record.json").exists()
    assert not (folder / "growing" / "claim.json").exists()


def test_a_process_that_is_killed_ends_the_others_though_they_wait_for_one_another(case):
    """As processes wait for their GPUs, which notice nothing; gloo's wait cannot be aborted."""
    folder, statuses = case("killed unseen")
    assert statuses == [1, -signal.SIGKILL, 1]
    assert not (folder / "growing" / "record.json").exists()
    assert "process 1 of this trial has ended" in (folder / "growing" / "log.txt").read_text()
    assert "waits in vain" in (folder / "growing" / "log.txt").read_text()


def test_the_record_has_the_error_of_the_process_that_failed(case):
    folder, statuses = case("third breaks")
    assert statuses == [0, 0, 1]
    failed = record(folder / "growing")
    assert failed["reason"] == "process 2 of 3 failed: ValueError: broke on purpose"
    assert failed["traceback"].startswith("In process 2 of 3:\nTraceback")


def test_a_last_trial_that_fails_alike_in_all_processes_is_a_record_and_no_process_breaks(case):
    """The leader's process holds what the others hear: it may not end before they have heard."""
    folder, statuses = case("each breaks")
    assert statuses == [0, 0, 0]
    assert answers(folder, "growing") == [("recorded", "recorded")]
    assert record(folder / "growing")["reason"] == "ValueError: broke on purpose"


@pytest.fixture
def given(monkeypatch):
    """Sets the environment of a process, clear of SLURM and torchrun."""

    def set_(**values):
        for name in list(os.environ):
            if name.startswith("SLURM_") or name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
                monkeypatch.delenv(name)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_


TORCHRUN = {
    "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "here", "MASTER_PORT": "1",
}  # fmt: skip
SLURM = {
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "trial",
}  # fmt: skip


def test_slurm_or_torchrun_gives_each_process_its_rank(given):
    given(**SLURM)
    environment = find_environment(nodes=2, processes=2)
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
    given(**TORCHRUN, SLURM_PROCID="0", SLURM_NTASKS="1")
    environment = find_environment(nodes=2, processes=2)
    assert isinstance(environment, TorchElasticEnvironment)
    assert (environment.global_rank(), environment.local_rank()) == (3, 1)


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, "no process has a place in the environment"),
        ({**TORCHRUN, "WORLD_SIZE": "3"}, "RANK=3 LOCAL_RANK=1 WORLD_SIZE=3"),
        ({**SLURM, "SLURM_NTASKS": "1"}, "SLURM_NTASKS=1"),
        ({**SLURM, "SLURM_NTASKS_PER_NODE": "4"}, "SLURM_NTASKS_PER_NODE=4\n"),
    ],
)
def test_processes_other_than_those_requested_are_one_clear_error(given, values, wrong):
    given(**values)
    with pytest.raises(LaunchError) as caught, joined(2, 2, "cpu"):
        pass
    assert "a trial of 4 processes (2 x 2 per node) was started differently" in str(caught.value)
    assert wrong in str(caught.value)
    assert "srun --nodes=2 --ntasks-per-node=2" in str(caught.value)


def test_one_process_needs_no_group_whatever_the_environment_says(given):
    given(**TORCHRUN)
    with Conditions(Path("unused")).join() as replicas:
        assert replicas is ALONE
        assert not torch.distributed.is_initialized()


def test_conditions_name_at_least_one_process():
    with pytest.raises(ConfigError, match="processes must be at least 1, got 0"):
        Conditions(Path("unused"), processes=0)


def test_the_shares_of_the_data_are_the_data():
    data = Data(Settings(), seed=0)
    whole = list(data.train_batches(1, 1))
    shares = [list(data.train_share(1, 1, rank, 2)) for rank in (0, 1)]
    for batch, first, second in zip(whole, *shares, strict=True):
        for value, *halves in zip(batch, first, second, strict=True):
            assert torch.equal(torch.cat(halves), value)
    held_out = [len(x) for rank in (0, 1) for x, _ in data.evaluation_share("val", rank, 2)]
    assert held_out == [16, 8, 16]


def test_a_batch_is_sliced_whatever_its_shape_and_only_evenly():
    batch = {"words": [torch.arange(4)], "count": torch.tensor(4), "name": "four"}
    second = slice_batch(batch, 1, 2)
    assert second["words"][0].tolist() == [2, 3]
    assert (second["count"], second["name"]) == (4, "four")
    with pytest.raises(ConfigError, match=r"task.batch_size must be a multiple of the 3 processes"):
        slice_batch(batch, 1, 3)
