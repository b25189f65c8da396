"""What a table says of its tasks and seeds, against SciPy, closed forms and planted effects."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from nos_repro.report.nosbench.tables import nosbench_tables
from nos_repro.rules.space import Space
from nos_repro.search.table.analysis import analyse
from nos_repro.search.table.files import Packed
from nos_repro.search.table.grouping import TableRule
from nos_repro.search.table.loaded import RuleTable
from nos_repro.search.table.measures import best_quarter, kendall, luck, luck_deviation, regret
from nos_repro.search.table.rows import TableRow


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
    rewards += source.normal(0, 3, (1, 4))  # a seed may be easier for all rules
    n, k = rewards.shape
    between = k * ((rewards.mean(1) - rewards.mean()) ** 2).sum() / (n - 1)
    left = rewards - rewards.mean(1, keepdims=True) - rewards.mean(0) + rewards.mean()
    residual = (left**2).sum() / ((n - 1) * (k - 1))
    icc = (between - residual) / (between + (k - 1) * residual)
    found = luck(rewards)
    assert found.value == pytest.approx(1 - icc, abs=1e-12)
    assert found.low < 0.2 < found.high  # planted: 1 / (4 + 1)
    assert luck_deviation(rewards) == pytest.approx(math.sqrt(residual))


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


def planted(parts: list[list[int]]) -> tuple[RuleTable, np.ndarray]:
    """A table whose rewards are known values plus noise of deviation 0.02; the rules of the i-th
    list have the seed i. And the values."""
    source = np.random.default_rng(5)
    values = source.uniform(0.2, 0.8, 400)
    space = Space(("g", "m"), ("identity",), ("*", "keep_left"), 1)
    rules = [TableRule(str(n), str(n), str(n), 1) for n in range(len(values))]
    rows = [
        TableRow(n, seed, "healthy", float(values[n] + source.normal(0, 0.02)), 0.1, (), (), 1, 1.0,
                 "")
        for seed, chosen in enumerate(parts)
        for n in chosen
    ]  # fmt: skip
    head = {"table": "planted", "scale": "full", "space": dataclasses.asdict(space), "tasks": {}}
    packed = Packed(head, rules, np.zeros(space.size, int), {"digits": rows})
    return RuleTable(packed, Path("unused")), values


def test_the_luck_in_the_best_quarter_is_not_inflated_by_choosing_it():
    everything = list(range(400))
    loaded, values = planted([everything] * 3)
    (found,) = analyse(loaded).luck
    top = loaded.rewards("digits", 0) >= np.quantile(loaded.rewards("digits", 0), 0.75)
    for share, truth in ((found.share, values), (found.quarter, values[top])):
        assert share.low < 0.02**2 / (0.02**2 + truth.var()) < share.high
    assert found.deviation == pytest.approx(0.02, rel=0.1)


def test_a_seed_that_chose_which_rules_others_train_measures_nothing():
    everything = list(range(400))
    whole, _ = planted([everything])
    best = [int(n) for n in np.argsort(-whole.rewards("digits", 0))[:60]]
    loaded, _ = planted([everything, best, best])
    (found,) = analyse(loaded).luck
    assert found.seeds == [1, 2]
    assert found.share.n == 60
    assert found.regret.chosen_by == loaded.rewards("digits", 0).max()
    (summary,) = analyse(loaded).tasks
    assert (summary.whole, summary.first, len(summary.best)) == ([0], 0, 10)


def test_a_table_that_is_being_made_is_not_said_to_have_trained_the_best_rules():
    """No seed of a task has every rule: the first by number are there."""
    everything = list(range(400))
    loaded, _ = planted([everything])
    rows = {"cheap": loaded.packed.rows["digits"], "dear": loaded.packed.rows["digits"][:90]}
    loaded.packed.rows = rows
    found = analyse(loaded)
    cheap, dear = sorted(found.tasks, key=lambda task: task.task)
    assert (cheap.whole, cheap.partly, dear.whole, dear.partly) == ([0], {}, [], {0: 90})
    notes = [note for each in nosbench_tables(found) for note in each.notes]
    assert any("No seed of dear has trained every rule" in note for note in notes)
    assert not any("is predicted on these, which is harder" in note for note in notes)
    assert sum("Chosen by these very rewards" in note for note in notes) == 2


def test_too_few_rules_give_no_number():
    assert math.isnan(kendall(np.ones(2), np.ones(2)).value)
    assert math.isnan(luck(np.ones((2, 2))).value)
    assert math.isnan(kendall(np.ones(9), np.arange(9.0)).value)
