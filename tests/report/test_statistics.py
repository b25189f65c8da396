"""Paired comparisons: the interval against scipy's, and a verdict for every case."""

import math
import random

import pytest

from nos_repro.report.statistics import compare, quantile


def test_the_quantiles_are_those_of_students_t() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in [*range(1, 60), 100, 1000]:
        assert quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=6e-4)


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
