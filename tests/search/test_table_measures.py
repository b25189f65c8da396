"""What a table says of its tasks and seeds, against SciPy, closed forms and planted effects."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from nos_repro.search.table.measures import best_quarter, kendall, luck, luck_deviation, regret


@pytest.mark.parametrize("levels", [3, 20, 10_000])
def test_kendall_s_tau_is_scipy_s_with_and_without_ties(levels):
    source = np.random.default_rng(levels)
    x = source.integers(0, levels, 200).astype(float)
    y = np.round(x / levels + source.normal(0, 0.3, 200), 2)
    assert kendall(x, y).value == pytest.approx(kendalltau(x, y).statistic, abs=1e-6)


def test_the_interval_of_kendall_s_tau_is_that_of_resamples_taken_one_by_one():
    source = np.random.default_rng(0)
    x = np.round(source.normal(size=60), 1)
    y = np.round(x + source.normal(size=60), 1)
    draws = np.random.default_rng(1).integers(0, 60, (2000, 60))
    taus = [kendalltau(x[drawn], y[drawn]).statistic for drawn in draws]
    found = kendall(x, y)
    assert (found.low, found.high) == pytest.approx(np.quantile(taus, [0.025, 0.975]), abs=0.02)


def test_the_share_of_luck_is_one_less_the_intraclass_correlation_of_an_analysis_of_variance():
    source = np.random.default_rng(2)
    rewards = source.normal(0, 2, (300, 1)) + source.normal(0, 1, (300, 4))
    n, k = rewards.shape
    between = k * ((rewards.mean(1) - rewards.mean()) ** 2).sum() / (n - 1)
    within = ((rewards - rewards.mean(1, keepdims=True)) ** 2).sum() / (n * (k - 1))
    icc = (between - within) / (between + (k - 1) * within)
    found = luck(rewards)
    assert found.value == pytest.approx(1 - icc, abs=1e-12)
    assert found.low < 0.2 < found.high  # planted: 1 / (4 + 1)
    assert luck_deviation(rewards) == pytest.approx(math.sqrt(within))


def test_rewards_without_any_luck_or_with_nothing_else_are_told_apart():
    source = np.random.default_rng(3)
    steady = np.repeat(source.normal(size=(100, 1)), 3, axis=1)
    assert luck(steady).value == pytest.approx(0, abs=1e-12)
    assert luck(source.normal(size=(2000, 3))).value > 0.9


def test_the_regret_is_what_the_other_seeds_say_of_the_one_seed_s_choice():
    rewards = np.array([[0.9, 0.5, 0.5], [0.8, 0.7, 0.8], [0.1, 0.6, 0.7]])
    found = regret(rewards)
    assert found.chosen_by == pytest.approx((0.9 + 0.7 + 0.8) / 3)
    assert found.judged == pytest.approx((0.5 + 0.8 + 0.75) / 3)
    assert found.best == pytest.approx((0.75 + 0.8 + 0.75) / 3)
    assert regret(rewards[:, :1]) is None


def test_the_best_quarter_has_a_quarter_and_ties_with_its_last():
    assert best_quarter(np.arange(8.0)).tolist() == [False] * 6 + [True] * 2
    assert best_quarter(np.array([1.0, 1.0, 1.0, 0.0])).sum() == 3


def test_too_few_rules_give_no_number():
    assert math.isnan(kendall(np.ones(2), np.ones(2)).value)
    assert math.isnan(luck(np.ones((2, 2))).value)
    assert math.isnan(kendall(np.ones(9), np.arange(9.0)).value)
