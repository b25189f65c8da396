"""The loop: exact resumption, divergence as a value, and Lightning's Trainer as an oracle."""

import itertools
import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment

from nos_repro.experiments.build import Conditions, build, build_task
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.training import STATE, Stopped, train
from nos_repro.experiments.trial import Training
from tests.experiments.helpers import digits_trial, filled

HERE = Conditions(Path("unused"))

RULES = {
    "a family with internal decay and its noise": "rule: exp(ld*sign(g)*sign(m)) * (g + noise)",
    "drops": "rule: drop(g, 0.3) * exp(sign(g)*sign(m))",
    "states of its own": "rule: language 2: u <- 0.9 * u + drop(g, 0.3); u * norm(w) + ema(g, 0.5)",
    "torch's own Adam": "adam",
}


def trained(trial, folder, stop=lambda: False):
    run = build(trial, HERE)
    checkpoints = Checkpoints(folder, every_seconds=1e9)
    state = checkpoints.load(pytest.fail, STATE)
    if state is not None:
        run.restore(state)
    return run, train(run, checkpoints, stop=stop)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_run_stopped_after_any_step_and_resumed_is_the_run_that_never_stopped(rule, tmp_path):
    trial = digits_trial(
        optimizer=rule, schedule="noisy_linear_cosine", task_settings=filled(augment=True)
    )
    whole, _ = trained(trial, tmp_path / "whole")
    for _ in itertools.count():
        asked = itertools.count(1)
        try:
            resumed, _ = trained(trial, tmp_path / "parts", stop=lambda: next(asked) == 3)  # noqa: B023
        except Stopped:
            continue
        break
    assert resumed.history == whole.history
    for own, other in zip(resumed.task.parameters(), whole.task.parameters(), strict=True):
        assert torch.equal(own, other)


class DueLate(Checkpoints):
    """Falls due between two looks at the clock, once in the middle of an epoch."""

    looks = 0

    @property
    def due(self):
        self.looks += 1
        return self.looks == 4


def test_a_checkpoint_that_falls_due_between_two_looks_at_the_clock_loses_no_loss(tmp_path):
    trial = digits_trial(task_settings=filled(batch_size=20))
    whole, _ = trained(trial, tmp_path / "whole")
    run, checkpoints = build(trial, HERE), DueLate(tmp_path / "parts")
    asked = itertools.count(1)
    with pytest.raises(KeyboardInterrupt):
        train(run, checkpoints, stop=lambda: next(asked) == 6 and _killed())
    resumed, _ = trained(trial, tmp_path / "parts")
    assert resumed.history == whole.history


def _killed():
    raise KeyboardInterrupt


def test_the_loop_takes_the_same_steps_as_lightnings_trainer(tmp_path):
    trial = digits_trial(schedule="cosine")
    ours, _ = trained(trial, tmp_path)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        plugins=[LightningEnvironment()],
    )
    task, data = build_task(trial, HERE)
    trainer.fit(task, train_dataloaders=data)
    for own, other in zip(ours.task.parameters(), task.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0)


def test_a_divergence_is_a_result_that_names_its_step(tmp_path):
    trial = digits_trial(optimizer="rule: g * exp(1000*sign(g)*sign(g))", lr=1.0)
    run, ending = trained(trial, tmp_path)
    assert ending.status == "diverged"
    assert 1 <= ending.step <= run.steps
    assert f"step {ending.step}" in ending.reason


def test_the_step_that_diverged_does_not_depend_on_when_it_is_looked_for(tmp_path, monkeypatch):
    trial = digits_trial(optimizer="rule: g * exp(1000*sign(g)*sign(g))", lr=1.0)
    _, late = trained(trial, tmp_path / "late")
    monkeypatch.setattr("nos_repro.experiments.training.CHECK_EVERY", 1)
    _, early = trained(trial, tmp_path / "early")
    assert early == late


def test_metrics_hold_no_clock_so_that_two_runs_write_the_same_bytes(tmp_path):
    trial = digits_trial()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run_trial(trial, tmp_path / name, HERE)
    one, two = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two
    assert one.count(b"\n") == 2


def test_the_best_epoch_is_the_one_that_is_reported(tmp_path):
    trial = digits_trial(training=Training(epochs=4, evaluate_every=2))
    run, _ = trained(trial, tmp_path)
    assert [line["epoch"] for line in run.history] == [2, 4]
    assert all(math.isfinite(value) for line in run.history for value in line.values())


def test_gradients_are_clipped_to_the_requested_norm(tmp_path):
    trial = digits_trial(optimizer="sgd", lr=1.0, training=Training(epochs=1, gradient_norm=1e-3))
    run = build(trial, HERE)
    before = [p.detach().clone() for p in run.task.parameters()]
    run.train_step(next(run.data.train_batches(0)))
    moved = torch.cat(
        [(p.detach() - b).flatten() for p, b in zip(run.task.parameters(), before, strict=True)]
    )
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)
