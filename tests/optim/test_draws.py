"""The quality of the counter-based generator, and what its numbers depend on."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from nos_repro import RuleOptimizer
from nos_repro.optim import batch
from nos_repro.optim.draws import keep, make_key, normal, random_words

N = 1 << 18


def draw(seed: int = 0, step: int = 0, tensor: int = 0, site: int = 0, n: int = N) -> Tensor:
    return normal(torch.arange(n), make_key(seed, step, tensor, site), torch.float64)


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
    kept = keep(torch.arange(N), make_key(0, 0, 0, 0), probability)
    dropped = 1 - kept.double().mean()
    error = math.sqrt(probability * (1 - probability) / N)
    assert abs(dropped - probability) <= 4 * error


def test_the_same_numbers_come_in_every_dtype() -> None:
    key = make_key(1, 2, 3, 4)
    wide = normal(torch.arange(1000), key, torch.float64)
    narrow = normal(torch.arange(1000), key, torch.float32)
    assert torch.allclose(wide, narrow.double(), atol=1e-5)


def test_a_part_of_a_tensor_draws_what_the_whole_draws() -> None:
    key = make_key(0, 0, 0, 0)
    whole = normal(torch.arange(100), key, torch.float32)
    part = normal(torch.arange(70, 100), key, torch.float32)
    assert torch.equal(whole[70:], part)


# from the known answers that the authors of Philox publish: counter, key, block
# fmt: off
PHILOX = [
    (0x00000000, 0x00000000, 0x00000000, 0xFF1DAE59, 0x6CD10DF2),
    (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0x2C3F628B, 0xAB4FD7AD),
    (0x243F6A88, 0x85A308D3, 0x13198A2E, 0xDD7CE038, 0xF62A4C12),
]
# fmt: on


@pytest.mark.parametrize(("low", "high", "key", "first", "second"), PHILOX)
def test_the_generator_gives_philoxs_known_answers(
    low: int, high: int, key: int, first: int, second: int
) -> None:
    words = random_words(torch.tensor(low), (key, high))
    assert [int(word) for word in words] == [first, second]


def test_places_beyond_2_to_the_31_and_the_32_draw_numbers_of_their_own() -> None:
    key = make_key(0, 0, 0, 0)
    drawn = [
        normal(torch.arange(start, start + 1000), key, torch.float64)
        for start in (0, 2**31 - 500, 2**32 - 500, 2**33, 2**40)
    ]
    assert len(torch.cat(drawn).unique()) > 4990


@pytest.mark.parametrize(
    ("seeds", "n"),
    [(range(2), 1 << 20), pytest.param(range(8), 1 << 22, marks=pytest.mark.slow)],
)
def test_the_two_uniforms_of_a_normal_are_independent(seeds: range, n: int) -> None:
    """Chi-square of 64 x 64 cells."""
    for seed in seeds:
        first, second = random_words(torch.arange(n), make_key(seed, 0, 0, 0))
        cells = (first >> 26) * 64 + (second >> 26)
        assert abs(chi_square(torch.bincount(cells, minlength=4096))) < 5


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5])
def test_drops_of_many_keys_are_independent_of_key_and_neighbour(probability: float) -> None:
    """The number of drops per key is binomial; so is that of neighbours that are both dropped."""
    n, ranges = 4096, (range(2), range(25), range(4), range(2))
    keys = [make_key(*numbers) for numbers in itertools.product(*ranges)]
    dropped = torch.stack([~keep(torch.arange(n), key, probability) for key in keys]).double()
    for events, p in ((dropped, probability), (dropped[:, 1::2] * dropped[:, ::2], probability**2)):
        z = (events.sum(1) - events.shape[1] * p) / math.sqrt(events.shape[1] * p * (1 - p))
        assert abs(z.mean()) < 4 / math.sqrt(len(keys))
        assert abs(z.var() - 1) < 4 * math.sqrt(2 / len(keys))


def test_normals_of_many_keys_are_normal_by_kolmogorov_and_smirnov() -> None:
    """The distances of 200 keys have the mean of Kolmogorov's distribution, 0.8687 / sqrt(n)."""
    n = 4096
    rank = torch.arange(1, n + 1, dtype=torch.float64) / n
    distances = []
    for t in range(200):
        cdf = torch.special.ndtr(draw(step=t, n=n).sort().values)
        distances.append(torch.maximum((rank - cdf).abs(), (cdf - (rank - 1 / n)).abs()).max())
    mean = float(torch.stack(distances).mean()) * math.sqrt(n)
    assert abs(mean - 0.8687) < 4 * 0.2603 / math.sqrt(200)


def chi_square(counts: Tensor) -> float:
    """Its distance from the mean, in standard deviations, if all cells are equally likely."""
    expected = counts.sum() / len(counts)
    degrees = len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / math.sqrt(2 * degrees))


def test_numbers_never_change() -> None:
    """Today's checkpoint must continue with the same noise tomorrow."""
    key = make_key(seed=7, step=11, tensor=3, site=1)
    assert key == make_key(7, 11, 3, 1)
    x = normal(torch.arange(3), key, torch.float64)
    assert x.tolist() == pytest.approx(FROZEN, abs=1e-12)
    assert keep(torch.arange(12), key, 0.5).int().tolist() == KEPT


FROZEN = [-0.044227586377269965, -1.5899588900672346, 1.82404603963694]
KEPT = [1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1]


RULE = "drop(g, 0.4) + noise"


def one_step(layout: str, **execution: bool) -> Tensor:
    """Weights after a step on a tensor that lies in memory as asked."""
    generator = torch.Generator().manual_seed(0)
    w, g = torch.randn(2, 6, 32, 3, 5, generator=generator)
    parameter = Parameter(LAYOUTS[layout](w))
    parameter.grad = g
    RuleOptimizer([parameter], RULE, 0.1, seed=2, **execution).step()
    return parameter.detach().contiguous()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "reversed": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "with holes": lambda x: torch.stack([x, x], -1)[..., 0],
}


@pytest.mark.parametrize("execution", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_a_tensor_draws_the_same_in_every_layout(execution: dict[str, bool]) -> None:
    plain = one_step("contiguous", foreach=False)
    for layout in LAYOUTS:
        assert torch.allclose(one_step(layout, **execution), plain, atol=1e-6), layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tensor_that_is_drawn_in_blocks_draws_the_same(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = one_step(layout, foreach=False)
    monkeypatch.setattr(batch, "BLOCK", 100)
    assert torch.equal(one_step(layout, foreach=False), whole)


def test_a_compiled_kernel_drops_the_same_elements_to_the_bit() -> None:
    w, g = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
    plain, compiled = Parameter(w.clone()), Parameter(w.clone())
    for p, execution in ((plain, {"foreach": False}), (compiled, {"fused": True})):
        p.grad = g
        RuleOptimizer([p], "drop(g, 0.4)", 0.1, seed=2, **execution).step()
    assert torch.equal(plain, compiled)
