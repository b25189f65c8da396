"""Rosenbrock's function against its closed form, and what happens far from the valley."""

import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from nos_repro.errors import ConfigError
from nos_repro.tasks.facts.rosenbrock import RosenbrockSettings
from nos_repro.tasks.rosenbrock import Rosenbrock


def test_value_and_gradient_at_the_customary_start() -> None:
    task = Rosenbrock(RosenbrockSettings())
    loss = task.training_step(())
    loss.backward()
    assert loss.item() == task.chance(task.settings) == 409
    assert (task.x.grad.item(), task.y.grad.item()) == (-1606, -400)


def test_the_optimum_is_at_one_one_with_the_known_curvatures() -> None:
    task = Rosenbrock(RosenbrockSettings(start=(1.0, 1.0)))
    assert task.training_step(()).item() == 0

    def f(point: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(task, {"x": point[0], "y": point[1]})

    hessian = torch.autograd.functional.hessian(f, torch.ones(2, dtype=torch.float64))
    assert torch.linalg.eigvalsh(hessian).tolist() == pytest.approx([0.399, 1001.6], rel=1e-3)


def test_divergence_is_a_value() -> None:
    task = Rosenbrock(RosenbrockSettings(start=(1e200, 0.0)))
    assert math.isinf(task.chance(task.settings))
    optimizer = torch.optim.SGD(task.parameters(), 1.0)
    for _ in range(3):
        optimizer.zero_grad()
        task.training_step(()).backward()
        optimizer.step()
    sums = {key: float(value) for key, value in task.evaluation_sums(()).items()}
    assert math.isnan(task.metrics(sums)["loss"])


def test_an_epoch_has_the_requested_number_of_steps() -> None:
    settings = RosenbrockSettings(steps_per_epoch=7)
    data = Rosenbrock.make_data(settings, data_dir=Path("unused"), seed=0)
    assert len(list(data.train_batches(0))) == data.steps_per_epoch == 7
    assert len(list(data.train_batches(5, start=4))) == 3


def test_evaluation_shows_the_current_point() -> None:
    task = Rosenbrock(RosenbrockSettings(start=(0.5, -1.0)))
    sums = {key: float(value) for key, value in task.evaluation_sums(()).items()}
    assert task.metrics(sums) == {"loss": 0.25 + 100 * 1.25**2, "x": 0.5, "y": -1.0}


def test_a_start_from_yaml_is_a_pair() -> None:
    merged = OmegaConf.merge(OmegaConf.structured(RosenbrockSettings), {"start": [1, 2]})
    assert OmegaConf.to_object(merged).start == (1.0, 2.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": (math.nan, 0.0)}, r"task\.start must be two finite numbers"),
        ({"steps_per_epoch": 0}, r"task\.steps_per_epoch must be at least 1, got 0"),
    ],
)
def test_an_impossible_setting_is_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RosenbrockSettings(**given)
