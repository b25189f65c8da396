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


def test_walks_from_several_starts_are_those_of_each_start_alone() -> None:
    """Each by itself in plain Python, without tensors; every rule works element by element."""
    torch.manual_seed(3)
    together = Rosenbrock(RosenbrockSettings(start=(0.0, 1.0), starts=25, spread=1.5))
    starts = list(zip(together.x.tolist(), together.y.tolist(), strict=True))
    assert len({*starts}) == 25
    assert all(abs(x) <= 1.5 and abs(y - 1) <= 1.5 for x, y in starts)
    optimizer = torch.optim.SGD(together.parameters(), 1e-4)
    for _ in range(20):
        optimizer.zero_grad()
        together.training_step(()).backward()
        optimizer.step()
    values = []
    for x, y in starts:
        for _ in range(20):
            slope = -400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)
            x, y = x - 1e-4 * slope[0], y - 1e-4 * slope[1]
        values.append((1 - x) ** 2 + 100 * (y - x * x) ** 2)
    found = together.metrics(
        {key: float(value) for key, value in together.evaluation_sums(()).items()}
    )
    assert found["loss"] == pytest.approx(math.exp(sum(map(math.log, values)) / 25), rel=1e-9)


def test_starts_are_the_seeds() -> None:
    def drawn(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return Rosenbrock(RosenbrockSettings(starts=3)).x.tolist()

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("wrong", [{"starts": -1}, {"spread": 0.0}, {"spread": math.inf}])
def test_impossible_starts_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RosenbrockSettings(**wrong)  # type: ignore[arg-type]
