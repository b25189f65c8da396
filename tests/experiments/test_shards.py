"""Sharded training of two processes: the numbers of two that hold everything, half the memory."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.environment import Environment
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.shards import check_elementwise, check_shardable, shard
from nos_repro.experiments.trial import Training
from nos_repro.launch.run import conditions_of, prepare_data
from nos_repro.launch.settings import LauncherSettings
from nos_repro.optim.factory import make_optimizer
from nos_repro.optim.sharding import is_dtensor, local_part
from nos_repro.tasks.facts.gnmt import GNMTSettings
from nos_repro.tasks.gnmt import GNMT, SentenceBatch
from tests.conftest import ROOT
from tests.experiments.helpers import digits_study
from tests.experiments.replicated import Regression, trial
from tests.experiments.test_replicas import answers, assert_same_training, record, weights

TINY = {
    "data": "numbers", "train_pairs": 64, "vocabulary": 60, "layers": 3, "width": 9,
    "batch_size": 16, "beam": 1, "longest": 150, "bleu_every": 0,
}  # fmt: skip
TRANSLATION = {
    "task": "gnmt", "task_settings": TINY, "lr": 0.05, "training": {"epochs": 1},
}  # fmt: skip
OPTIMIZERS = {
    "powersign": {"optimizer": "powersign", "options": {"fused": True}},
    "draws": {"optimizer": "rule: exp(sign(g)*sign(m)) * (g + noise) + drop(g, 0.3)"},
    "adam, clipped": {
        "optimizer": "adam", "lr": 0.01, "task_settings": {**TINY, "bleu_every": 1},
        "training": {"epochs": 1, "gradient_norm": 0.01},
    },
}  # fmt: skip
SMALL = {"optimizer": "adam", "lr": 0.02, "training": {"epochs": 4, "gradient_norm": 0.1}}
WIDE = {**SMALL, "task_settings": {"width": 101}}
NOISY = {**SMALL, "task_settings": {"dropout": 0.5}}
REFUSED = {
    "a task": {"task": "mlp", "task_settings": {"data": "digits", "train_images": 100}},
    "an optimizer": {"optimizer": "torch.optim.Adadelta"},
}


def sharded(name, made, **more):
    return {"name": name, "trial": made, "shard": True, **more}


def plain(name, made, **more):
    return {"name": name, "trial": made, **more}


PAIR = [
    *(sharded(name, made) for name, made in REFUSED.items()),
    *(plain(f"{name} plain", {**TRANSLATION, **own}) for name, own in OPTIMIZERS.items()),
    *(sharded(f"{name} sharded", {**TRANSLATION, **own}) for name, own in OPTIMIZERS.items()),
    sharded("half", WIDE, weigh=True),
    plain("full", WIDE, weigh=True),
    sharded("whole", NOISY),
    sharded("parts", NOISY, stop={"1": 2}),
    sharded("parts", NOISY, stop={"0": 1}),  # at the end of an epoch, before its evaluation
    sharded("parts", NOISY),
    plain("plain", SMALL),
    sharded("to plain", SMALL, stop={"1": 5}),
    plain("to plain", SMALL),
    plain("to sharded", SMALL, stop={"1": 5}),
    sharded("to sharded", SMALL),
    sharded("to one", SMALL, stop={"1": 5}),
]
# fmt: off
CASES = {
    "pair":         {"world": 2, "trouble": "",           "plan": PAIR},
    "one breaks":   {"world": 2, "trouble": "1 breaks",   "plan": [sharded("trial", SMALL)]},
    "one vanishes": {"world": 2, "trouble": "1 vanishes", "plan": [sharded("trial", SMALL)]},
}
# fmt: on


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder for each of CASES, after its processes have run it, and their exit statuses."""
    folder = tmp_path_factory.mktemp("cases")
    (folder / "cases.json").write_text(json.dumps(CASES))
    for name in CASES:
        (folder / name).mkdir()
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gnmt_ends_sharded_with_the_numbers_that_it_ends_with_whole(pair, name):
    """In float32. The norm that clips is added up in another order, and torch's fused Adam rounds
    the last elements of a tensor, or of a part, otherwise than the others."""
    one, two = record(pair / f"{name} sharded"), record(pair / f"{name} plain")
    assert (one["status"], one["steps"]) == (two["status"], two["steps"]) == ("finished", 4)
    for own, other in zip(one["metrics"], two["metrics"], strict=True):
        assert own == pytest.approx(other, rel=1e-6)
    ours, theirs = (weights(pair / f"{name} {how}") for how in ("sharded", "plain"))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-6)
    assert one["provenance"]["device_settings"]["shard"]
    assert not two["provenance"]["device_settings"]["shard"]
    assert one["id"] == two["id"]


def test_each_of_two_processes_holds_about_half_of_everything(pair):
    ((half, other),), ((full, _),) = answers(pair, "half"), answers(pair, "full")
    for what in ("weights", "gradients", "optimizer"):
        assert half[what] == pytest.approx(full[what] / 2, rel=0.02)
        assert other[what] == pytest.approx(full[what] / 2, rel=0.02)
    assert full["optimizer"] == 2 * full["weights"]


def test_a_sharded_run_that_is_resumed_is_the_run_that_never_stopped(pair):
    assert answers(pair, "parts") == [("stopped",) * 2, ("stopped",) * 2, ("recorded",) * 2]
    whole = (pair / "whole" / "metrics.jsonl").read_bytes()
    assert (pair / "parts" / "metrics.jsonl").read_bytes() == whole
    for key, value in weights(pair / "parts").items():
        assert torch.equal(value, weights(pair / "whole")[key])


@pytest.mark.parametrize("name", ["to plain", "to sharded"])
def test_a_checkpoint_is_resumed_with_shards_or_without(pair, name):
    assert answers(pair, name) == [("stopped", "stopped"), ("recorded", "recorded")]
    assert_same_training(pair / name, pair / "plain")


def test_one_process_resumes_the_checkpoint_of_two_that_shard(pair):
    conditions = Conditions(pair, device="cpu")
    assert run_trial(trial(**SMALL), pair / "to one", conditions) == ("recorded", [])
    assert_same_training(pair / "to one", pair / "plain")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a task", "device.shard: MLP cannot be sharded, GNMT can"),
        ("an optimizer", "device.shard: Adadelta is not known to update each element by itself"),
    ],
)
def test_what_cannot_be_sharded_is_one_clear_error_before_the_first_step(pair, name, reason):
    failed = record(pair / name)
    assert (failed["status"], failed["steps"]) == ("failed", 0)
    assert failed["reason"].startswith(reason)


def test_gradients_that_are_changed_as_a_whole_are_refused():
    coarse = Training(environment=Environment(bits=4))
    with pytest.raises(ConfigError, match=r"device.shard: training.environment needs whole"):
        check_shardable(Regression, coarse)


def test_a_sharded_process_that_vanishes_ends_the_other(cases):
    folder, statuses = cases
    assert statuses["one vanishes"] == [1, 9]
    ((leader, _),) = answers(folder / "one vanishes", "trial")
    assert leader.startswith("LaunchError: one of the trial's 2 processes fell silent")
    assert not (folder / "one vanishes" / "trial" / "record.json").exists()


def test_an_exception_in_a_sharded_process_is_a_failed_record_that_names_it(cases):
    folder, statuses = cases
    assert statuses["one breaks"] == [0, 1]
    failed = record(folder / "one breaks" / "trial")
    assert failed["reason"] == "process 1 of 2 failed: ValueError: broke on purpose"


def test_one_process_has_nothing_to_share():
    asked = DeviceSettings(shard=True)
    with pytest.raises(ConfigError, match=r"device.shard=true needs several processes.*\n.*gpus"):
        conditions_of(None, 60.0, LauncherSettings(gpus=2), asked)  # here, not on a cluster
    on_two = conditions_of(None, 60.0, LauncherSettings(name="slurm", gpus=2), asked)
    assert on_two.processes == 2
    with pytest.raises(ConfigError, match=r"each child of a search or a table.*by one process"):
        conditions_of(None, 60.0, device=asked)
    with pytest.raises(ConfigError, match=r"device.shard and device.compile do not go together"):
        DeviceSettings(shard=True, compile=True)


@pytest.fixture
def one_of_two():
    """The first of two processes, of which the other does not exist."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def batch():
    source, target = torch.randint(4, 60, (3, 5)), torch.randint(4, 60, (3, 6))
    return SentenceBatch(source, target, torch.tensor(5.0), torch.tensor(1))


def test_gnmts_shards_hold_all_its_weights_and_none_is_whole_after_a_step(one_of_two, batch):
    task = GNMT(GNMTSettings(**TINY))
    count = sum(p.numel() for p in task.parameters())
    assert {p for module in task.shards() for p in module.parameters()} == set(task.parameters())
    shard(task, torch.device("cpu"))
    task.training_step(batch).backward()
    parts = [p for p in task.parameters() if is_dtensor(p)]
    assert sum(p.numel() for p in parts) == count
    assert sum(local_part(p).numel() for p in parts) < 0.6 * count


def test_no_lstms_weights_are_moved_away_from_where_they_are_gathered(
    one_of_two, batch, monkeypatch
):
    """As cuDNN would do when they first change; what is gathered later would not reach them."""
    task = GNMT(GNMTSettings(**TINY))
    moved = []
    monkeypatch.setattr(nn.LSTM, "flatten_parameters", lambda layer: moved.append(layer))
    task.training_step(batch)
    assert moved == []  # they have not changed
    shard(task, torch.device("cpu"))
    task.training_step(batch)
    assert moved == []


def test_a_study_that_cannot_be_sharded_is_refused_before_any_trial(tmp_path):
    asked = Conditions(tmp_path, device_settings=DeviceSettings(shard=True), processes=2)
    with pytest.raises(ConfigError, match=r"device.shard: ConvNet cannot be sharded"):
        prepare_data(digits_study(), asked)


@pytest.mark.parametrize(
    "name",
    ["sgd", "momentum", "adam", "adam-tf", "rmsprop", "rmsprop-tf", "torch.optim.AdamW", "addsign"],
)
def test_an_optimizer_updates_a_part_as_it_updates_the_whole(one_of_two, name):
    mesh = init_device_mesh("cpu", (2,))

    def part_of(x):
        return distribute_tensor(x.clone(), mesh, [Shard(0)], src_data_rank=None)

    value = torch.randn(5, 3)
    whole, part = nn.Parameter(value.clone()), nn.Parameter(part_of(value))
    made = [make_optimizer(name, [p], lr=0.1) for p in (whole, part)]
    check_elementwise(made[1])
    for _ in range(3):
        gradient = torch.randn(5, 3)
        whole.grad, part.grad = gradient, part_of(gradient)
        for optimizer in made:
            optimizer.step()
    torch.testing.assert_close(part.to_local(), whole[:3])
