"""The quality of the counter-based generator, and what its numbers depend on."""

import math

import pytest
import torch
from torch import Tensor

from nos_repro.optim.draws import counter, keep, make_key, normal

N = 1 << 18


def draw(seed: int = 0, step: int = 0, tensor: int = 0, site: int = 0, n: int = N) -> Tensor:
    return normal(counter(torch.empty(n)), make_key(seed, step, tensor, site), torch.float64)


def test_noise_has_the_moments_of_a_normal() -> None:
    x = draw()
    error = 1 / math.sqrt(N)
    assert abs(x.mean()) < 4 * error
    assert abs(x.var() - 1) < 4 * math.sqrt(2) * error
    assert abs((x**3).mean()) < 4 * math.sqrt(15) * error
    assert abs((x**4).mean() - 3) < 4 * math.sqrt(96) * error


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_normal_by_kolmogorov_and_smirnov(seed: int) -> None:
    x = draw(seed).sort().values
    cdf = torch.special.ndtr(x)
    rank = torch.arange(1, N + 1, dtype=torch.float64) / N
    distance = torch.maximum((rank - cdf).abs(), (cdf - (rank - 1 / N)).abs()).max()
    assert distance < 1.95 / math.sqrt(N)  # p = 0.001


@pytest.mark.parametrize("lag", [1, 2, 16, 64, 1024, 4096])
def test_neighbours_are_independent(lag: int) -> None:
    x = draw()
    assert abs((x[lag:] * x[:-lag]).mean()) < 4 / math.sqrt(N)
    squares = x**2 - 1
    assert abs((squares[lag:] * squares[:-lag]).mean()) < 4 * 2 / math.sqrt(N)


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}, {"tensor": 1}, {"site": 1}])
def test_streams_are_independent(other: dict[str, int]) -> None:
    x, y = draw(), draw(**other)
    assert not torch.equal(x, y)
    assert abs((x * y).mean()) < 4 / math.sqrt(N)
    assert abs(((x**2 - 1) * (y**2 - 1)).mean()) < 4 * 2 / math.sqrt(N)


def test_steps_of_one_element_are_normal_and_independent() -> None:
    """Over the steps, not over the tensor: what one weight sees."""
    x = torch.stack([draw(step=t, n=8) for t in range(4000)])
    error = 1 / math.sqrt(4000)
    assert (x.mean(0).abs() < 4.5 * error).all()
    assert ((x.var(0) - 1).abs() < 4.5 * math.sqrt(2) * error).all()
    assert ((x[1:] * x[:-1]).mean(0).abs() < 4.5 * error).all()


def test_no_two_streams_are_shifts_of_one_another() -> None:
    x = draw(n=4096)
    for step in range(1, 40):
        y = draw(step=step, n=4096)
        assert len(set(x.tolist()) & set(y.tolist())) < 20


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_a_drop_zeroes_with_its_probability(probability: float) -> None:
    kept = keep(counter(torch.empty(N)), make_key(0, 0, 0, 0), probability)
    dropped = 1 - kept.double().mean()
    error = math.sqrt(probability * (1 - probability) / N)
    assert abs(dropped - probability) <= 4 * error


def test_the_same_numbers_come_in_every_dtype() -> None:
    key = make_key(1, 2, 3, 4)
    wide = normal(counter(torch.empty(1000)), key, torch.float64)
    narrow = normal(counter(torch.empty(1000)), key, torch.float32)
    assert torch.allclose(wide, narrow.double(), atol=1e-5)


def test_a_part_of_a_tensor_draws_what_the_whole_draws() -> None:
    key = make_key(0, 0, 0, 0)
    whole = normal(counter(torch.empty(100)), key, torch.float32)
    part = normal(counter(torch.empty(30), start=70), key, torch.float32)
    assert torch.equal(whole[70:], part)


def test_numbers_never_change() -> None:
    """Today's checkpoint must continue with the same noise tomorrow."""
    key = make_key(seed=7, step=11, tensor=3, site=1)
    assert key == make_key(7, 11, 3, 1)
    x = normal(counter(torch.empty(3)), key, torch.float64)
    assert x.tolist() == pytest.approx(FROZEN, abs=1e-12)
    assert keep(counter(torch.empty(12)), key, 0.5).int().tolist() == KEPT


FROZEN = [-0.45733402340353335, -1.3873692142506198, -0.5536130032778054]
KEPT = [1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1]
