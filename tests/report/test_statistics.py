"""Paired comparisons: the interval against scipy's, and a verdict for every case."""

import math
import random

import pytest

from nos_repro.report.distributions import heads_at_most, normal_below
from nos_repro.report.statistics import above, compare, quantile


def test_the_quantiles_are_those_of_students_t() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in [*range(1, 60), 100, 1000]:
        assert quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-10)
    assert math.isnan(quantile(0))


@pytest.mark.parametrize("degrees", [1, 2, 3.5, 9, 30, 999, 1e5])
def test_probabilities_are_students(degrees: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    for t in (0.0, 0.3, 1.0, 1.7, 5.0, 40.0, -0.3, -2.0, -30.0, math.inf):
        assert above(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-9)
    assert math.isnan(above(math.nan, degrees))
    assert above(1e-8, 1) == pytest.approx(0.5 - math.atan(1e-8) / math.pi, rel=1e-13)


def test_probabilities_are_the_normal_s_and_a_coin_s() -> None:
    special = pytest.importorskip("scipy.special")
    for z in (-9.0, -1.96, 0.0, 0.3, 2.0, 8.0):
        assert normal_below(z) == pytest.approx(special.ndtr(z), rel=1e-13)
    for k in range(14):
        assert heads_at_most(k, 13) == pytest.approx(special.bdtr(k, 13, 0.5), rel=1e-13)
    assert heads_at_most(-1, 13) == 0


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    source = random.Random(1)
    one = {seed: source.gauss(60, 1) for seed in range(6)}
    other = {seed: source.gauss(59, 1) for seed in range(6)}
    result = compare(one, other)
    interval = stats.ttest_rel(list(one.values()), list(other.values())).confidence_interval(0.95)
    assert result.mean - result.half == pytest.approx(interval.low, abs=2e-3)
    assert result.mean + result.half == pytest.approx(interval.high, abs=2e-3)


# fmt: off
CASES = [
    ("better",    [61.0, 62.0, 60.5], [60.0, 61.1, 59.4]),   # seeds differ more than the two do
    ("worse",     [60.0, 61.1, 59.4], [61.0, 62.0, 60.5]),
    ("level",     [60.0, 61.0, 62.0], [60.1, 60.8, 62.2]),
    ("level",     [60.0, 60.0],       [60.0, 60.0]),
    ("undecided", [60.0],             [50.0]),
    ("undecided", [],                 []),
    ("worse",     [99.0, 99.0, None], [10.0, 10.0, 10.0]),
    ("better",    [10.0, 10.0, 10.0], [99.0, None, 99.0]),
    ("better",    [61.0, 62.0, None], [60.0, 60.9, None]),
]
# fmt: on


@pytest.mark.parametrize(("verdict", "one", "other"), CASES)
def test_a_verdict(verdict: str, one: list[float | None], other: list[float | None]) -> None:
    assert compare(dict(enumerate(one)), dict(enumerate(other))).verdict == verdict


def test_only_shared_seeds_are_compared() -> None:
    result = compare({1: 5.0, 2: 6.0, 3: 100.0, 4: None}, {1: 4.0, 2: 4.0, 9: -100.0})
    assert (result.mean, result.n, result.lost) == (1.5, 2, 0)
    assert math.isfinite(result.half)
