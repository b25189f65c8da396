"""The entropy of rules, estimated from draws of distributions whose entropy is known."""

import math

import numpy as np
import pytest
from scipy import stats

from nos_repro.search.entropy import rule_entropy

SHARES = {
    "one rule": np.ones(1),
    "ten alike": np.full(10, 0.1),
    "300 alike": np.full(300, 1 / 300),
    "halves": np.array([0.5**n for n in range(1, 40)] + [0.5**39]),
    "heavy tail": 1 / np.arange(1, 400),
    "one in two": np.array([0.5, *np.full(400, 0.5 / 400)]),
}


@pytest.mark.parametrize("name", SHARES)
def test_the_estimate_is_near_the_entropy_and_its_error_says_how_near(name: str) -> None:
    shares = SHARES[name] / SHARES[name].sum()
    truth = float(stats.entropy(shares))
    source = np.random.default_rng(16)
    found = [rule_entropy(map(str, source.choice(len(shares), 500, p=shares))) for _ in range(60)]
    values = np.array([each.nats for each in found])
    assert abs(values.mean() - truth) < 0.03 * truth + 0.01
    errors = np.array([each.error for each in found])
    assert 0.8 * values.std() <= np.sqrt(np.mean(errors**2)) <= 1.8 * values.std() + 0.01


def test_it_is_nearer_than_miller_and_madow_s_where_most_rules_are_seen_once() -> None:
    source = np.random.default_rng(0)
    draws = source.integers(0, 20_000, 2_000)
    found = rule_entropy(map(str, draws))
    _, counts = np.unique(draws, return_counts=True)
    madow = stats.entropy(counts) + (len(counts) - 1) / (2 * len(draws))
    truth = math.log(20_000)
    assert abs(found.nats - truth) < 0.1 * abs(madow - truth)
    assert (found.draws, found.distinct) == (2_000, len(counts))


def test_too_few_draws_say_nothing_and_different_ones_are_no_failure() -> None:
    assert math.isnan(rule_entropy(["g"]).nats)
    assert rule_entropy(["g"] * 9).nats == 0
    assert rule_entropy(map(str, range(50))).nats > math.log(50)


def test_one_rule_drawn_once_among_many_of_another_is_an_estimate_too() -> None:
    for draws in (["a"] * 5 + ["b"], ["a"] * 4 + ["b"], ["a", "a", "b"]):
        assert math.isfinite(rule_entropy(draws).nats)
