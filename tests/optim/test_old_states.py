"""Optimizers, schedules and a trial's checkpoint that commit bf18b0a saved go on here.

`saved/` holds what that commit wrote after 7 of 12 updates, and the weights that it had at the end;
the trial was stopped after 23 of 40 updates.
"""

import gzip
import io
import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from nos_repro import AddSign, PowerSign, RuleOptimizer, make_optimizer, make_schedule
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.schema import Training
from nos_repro.experiments.training import STATE, train
from nos_repro.experiments.trial import Trial

SAVED = Path(__file__).parent / "saved"
DRAWN = "rule: drop"  # by another generator since: it goes on, with other draws
ROUNDED = ("rmsprop", "rmsprop-tf")  # torch's own updates, which another processor rounds otherwise
MAKERS: dict[str, Any] = {
    "powersign": lambda p: PowerSign(p, 0.1),
    "powersign-cd": lambda p: PowerSign(p, 0.1, 2.0, decay="cd", total_steps=20),
    "addsign-ld": lambda p: AddSign(p, 0.1, -0.5, decay="ld", total_steps=20),
    "rule: adam": lambda p: RuleOptimizer(p, "adam * exp(sign(g) * sign(m))", 0.1),
    DRAWN: lambda p: RuleOptimizer(p, "drop(m, 0.3) + 0.1 * noise * ld", 0.1, total_steps=20),
    **{name: lambda p, name=name: make_optimizer(name, p, lr=0.1)
       for name in ("sgd", "momentum", "adam", "rmsprop", "rmsprop-tf")},
}  # fmt: skip
SCHEDULES = (
    "constant", "cosine", "cosine_restarts", "stepwise", "linear_cosine", "noisy_linear_cosine"
)  # fmt: skip


def unpacked(name: str) -> bytes:
    return gzip.decompress((SAVED / name).read_bytes())


@cache
def saved() -> dict[str, Any]:
    found: dict[str, Any] = torch.load(io.BytesIO(unpacked("optimizers.pt.gz")), weights_only=True)
    return found


def walk(optimizer: Optimizer, start: int, end: int) -> list[Tensor]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(start, end):
        for i, p in enumerate(params):
            p.grad = torch.sin(torch.arange(p.numel()) * 1.7 + t + 31 * i).to(p.dtype).view(p.shape)
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("form", ["pickle", "state"])
def test_an_optimizer_that_an_older_version_saved_goes_on_bit_for_bit(name: str, form: str) -> None:
    old = saved()["optimizers"][name]
    if form == "pickle":
        optimizer = pickle.loads(old["pickle"])
    else:
        optimizer = MAKERS[name]([Parameter(w.clone()) for w in old["weights"]])
        optimizer.load_state_dict(old["state"])
    end = walk(optimizer, 7, 12)
    if name == DRAWN:
        assert all(x.isfinite().all() for x in end)
        assert not any(map(torch.equal, end, old["weights"]))
    elif name in ROUNDED:
        for own, then in zip(end, old["end"], strict=True):
            torch.testing.assert_close(own, then, rtol=8 * torch.finfo(own.dtype).eps, atol=0)
    else:
        assert all(map(torch.equal, end, old["end"]))


@pytest.mark.parametrize("name", ["powersign", "powersign-cd", "addsign-ld"])
def test_an_older_family_has_its_options_in_its_groups(name: str) -> None:
    old = pickle.loads(saved()["optimizers"][name]["pickle"])
    new = MAKERS[name]([Parameter(torch.zeros(2))])
    assert old.param_groups[0].keys() == new.param_groups[0].keys()
    assert old.rule_of(old.param_groups[0]) == new.rule_of(new.param_groups[0])
    again = type(old)([Parameter(torch.zeros(2))], **old.defaults)
    assert again.defaults == old.defaults


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_that_an_older_version_saved_goes_on_bit_for_bit(name: str) -> None:
    old = saved()["schedules"][name]
    optimizer = torch.optim.SGD([Parameter(torch.zeros(2, 3)), Parameter(torch.zeros(4))], 0.1)
    schedule = make_schedule(name, optimizer, total_steps=20, seed=3)
    optimizer.load_state_dict(old["optimizer"])
    schedule.load_state_dict(old["schedule"])
    rates = []
    for t in range(7, 22):
        rates.append(optimizer.param_groups[0]["lr"])
        walk(optimizer, t, t + 1)
        schedule.step()
    assert rates == old["rates"]


def test_a_trials_checkpoint_of_an_older_version_goes_on_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(unpacked("checkpoint.pt.gz"))
    old = json.loads((SAVED / "checkpoint.json").read_text(encoding="utf-8"))
    trial = Trial(**{**old["trial"], "training": Training(**old["trial"]["training"])})
    run = build(trial, Conditions(tmp_path))
    checkpoints = Checkpoints(tmp_path, every_seconds=1e9)
    state = checkpoints.load(pytest.fail, STATE)
    assert state is not None
    run.restore(state)
    assert run.step == 23
    train(run, checkpoints)
    assert run.history == old["history"]
