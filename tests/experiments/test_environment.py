"""Gradients in an environment: definitions in NumPy, exact sums, exact resumption."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.environment import Environment
from nos_repro.experiments.gradients import EnvironmentGradients, rounded
from nos_repro.experiments.training import STATE, Stopped, train
from nos_repro.experiments.trial import Training
from tests.experiments.helpers import digits_trial, filled

HERE = Conditions(Path("unused"))
FOUR_WORKERS = Environment(bits=2, workers=4, error_feedback=True, noise=0.1)


def _gradient(seed: int = 0) -> torch.Tensor:
    return torch.randn(40, 25, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_gradient_of_some_bits_is_the_definition_in_numpy(bits: int, rounding: str) -> None:
    gradient = _gradient()
    ours = rounded(gradient, bits, rounding, torch.Generator().manual_seed(5)).numpy()
    chance = torch.rand(gradient.shape, generator=torch.Generator().manual_seed(5)).numpy()
    exact = gradient.numpy().astype(np.float64)
    scale = np.abs(exact).max() / (2 ** (bits - 1) - 1)
    levels = np.rint(exact / scale) if rounding == "nearest" else np.floor(exact / scale + chance)
    np.testing.assert_allclose(ours, levels * scale, rtol=1e-5, atol=1e-7)
    assert len(np.unique(np.rint(ours / scale))) <= 2**bits - 1


def test_one_bit_is_the_sign_times_the_mean_size() -> None:
    gradient = _gradient().numpy()
    expected = np.sign(gradient) * np.abs(gradient).mean()
    np.testing.assert_allclose(rounded(torch.tensor(gradient), 1, "nearest"), expected, rtol=1e-6)


def test_stochastic_rounding_is_right_on_average_and_nearest_is_not() -> None:
    gradient, generator = _gradient(), torch.Generator().manual_seed(1)
    drawn = torch.stack([rounded(gradient, 2, "stochastic", generator) for _ in range(2000)])
    share = gradient.abs() / gradient.abs().max()  # how often it must be rounded away from 0
    error = (drawn.mean(0) - gradient) / gradient.abs().max() / (share * (1 - share) / 2000).sqrt()
    common = error[(share > 0.02) & (share < 0.98)]
    assert len(common) > 900
    assert common.abs().max() < 5
    assert 0.85 < common.square().mean() < 1.15
    assert (rounded(gradient, 2, "nearest") - gradient).abs().max() > 0.3 * gradient.abs().max()


@pytest.mark.parametrize("bits", [1, 4])
def test_a_gradient_of_zeros_stays_and_one_that_is_not_finite_is_seen(bits: int) -> None:
    assert not rounded(torch.zeros(7), bits, "stochastic", torch.Generator()).any()
    for bad in (float("nan"), float("inf")):
        gradient = torch.tensor([bad, 1.0, -2.0])
        assert not rounded(gradient, bits, "nearest").isfinite().any()


def test_with_error_feedback_what_was_sent_and_what_is_still_lost_add_up_to_the_gradients() -> None:
    param = nn.Parameter(torch.zeros(40, 25))
    made = EnvironmentGradients(
        Environment(bits=1, workers=3, error_feedback=True), [param], seed=0
    )
    arrived, wanted = torch.zeros(40, 25), torch.zeros(40, 25)
    for step in range(20):
        for worker in range(3):
            param.grad = _gradient(100 * step + worker)
            wanted += param.grad / 3
            made.take(worker, step)
        made.deliver()
        arrived += param.grad
    lost = sum(each[0] for each in made.state_dict()["lost"]) / 3
    assert lost.abs().max() > 0.1
    torch.testing.assert_close(arrived + lost, wanted, rtol=0, atol=1e-4)


def test_noise_has_its_relative_size_and_depends_on_seed_step_and_worker_alone() -> None:
    def sent(seed: int, step: int, worker: int) -> torch.Tensor:
        param = nn.Parameter(torch.zeros(40, 25))
        made = EnvironmentGradients(Environment(noise=0.5, workers=2), [param], seed)
        param.grad = _gradient()
        made.take(worker, step)
        made.deliver()
        assert param.grad is not None
        return param.grad * 2 - _gradient()

    size = _gradient().square().mean().sqrt()
    assert sent(0, 0, 0).std() / size == pytest.approx(0.5, rel=0.1)
    assert torch.equal(sent(0, 3, 1), sent(0, 3, 1))
    others = [sent(*place) for place in ((0, 3, 1), (1, 3, 1), (0, 4, 1), (0, 3, 0))]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(others, 2))


def test_workers_without_rounding_give_the_gradient_of_the_whole_batch() -> None:
    runs = []
    for environment in (None, Environment(workers=4)):
        run = build(
            digits_trial(
                training=Training(epochs=1, environment=environment),
                task_settings=filled(batch_size=40),
            ),
            HERE,
        )
        for module in run.task.modules():  # batch norm of a part is not that of the batch
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        run.train_step(next(run.data.train_batches(0)))
        runs.append(run)
    for own, other in zip(*(run.task.parameters() for run in runs), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "environment", [Environment(bits=4), FOUR_WORKERS], ids=["4 bits", "workers"]
)
def test_a_run_that_is_resumed_at_any_step_is_the_run_that_never_stopped(
    environment: Environment, tmp_path: Path
) -> None:
    training = Training(epochs=2, environment=environment)
    trial = digits_trial(
        optimizer="powersign", training=training, task_settings=filled(batch_size=40)
    )
    whole = _trained(trial, tmp_path / "whole")
    for _ in itertools.count():
        asked = itertools.count(1)
        try:
            resumed = _trained(trial, tmp_path / "parts", lambda: next(asked) == 3)  # noqa: B023
        except Stopped:
            continue
        break
    assert resumed.history == whole.history
    for own, other in zip(resumed.task.parameters(), whole.task.parameters(), strict=True):
        assert torch.equal(own, other)


def _trained(trial, folder, stop=lambda: False):
    run, checkpoints = build(trial, HERE), Checkpoints(folder, every_seconds=1e9)
    state = checkpoints.load(pytest.fail, STATE)
    if state is not None:
        run.restore(state)
    assert train(run, checkpoints, stop=stop).status == "finished"
    return run


def test_an_environment_makes_another_trial_and_none_makes_the_old_one() -> None:
    plain = digits_trial()
    stored = plain.to_json()
    del stored["training"]["environment"]
    assert plain.same_settings(stored)
    four = digits_trial(
        training=dataclasses.replace(plain.training, environment=Environment(bits=4))
    )
    assert four.id != plain.id
    assert not four.same_settings(stored)
    assert four.same_settings(four.to_json())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bits": 0}, "training.environment.bits must be from 1 to 16, got 0"),
        ({"rounding": "up"}, "unknown training.environment.rounding 'up'"),
        ({"workers": 0}, "training.environment.workers must be at least 1, got 0"),
        ({"error_feedback": True}, "training.environment.error_feedback: nothing is lost without"),
        ({"noise": -1.0}, "training.environment.noise must not be negative, got -1.0"),
    ],
)
def test_an_impossible_environment_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Environment(**given)
    assert str(refused.value).startswith(message)


def test_workers_that_cannot_share_a_batch_are_refused() -> None:
    training = Training(environment=Environment(workers=7))
    with pytest.raises(ConfigError, match=r"workers must divide task\.batch_size \(\d+\), got 7"):
        build(digits_trial(training=training), HERE)
