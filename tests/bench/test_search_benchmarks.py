"""The parts of the search's benchmarks that need no clock."""

import math
import time

import pytest

from nos_repro.bench.child_training import standard_errors
from nos_repro.bench.search_workers import SPREAD, Sleepers, simulate
from nos_repro.bench.wide_resnet_trials import WAYS, trial_of
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import find_config
from nos_repro.tasks.facts.base import SPEED, settings_that_change
from nos_repro.tasks.registry import describe


def test_a_small_simulation_scores_every_rule_and_reports_every_measurement():
    rows = {row.what: row for row in simulate(4, 30, 0.01)}
    assert rows["4 workers, 30 rules: busy"].at_least == 0.97
    assert 0 < rows["4 workers, 30 rules: busy"].value.median <= 1
    assert rows["memory at the end over that at the start"].at_most == 1.1
    assert rows["the controller's own time per rule"].value.median > 0


def test_sleepers_sleep_log_normal_times_with_the_requested_mean(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)  # all fall asleep at once
    sleepers = Sleepers(10**6, mean_seconds=2.0)

    class Job:
        optimizer = "rule: g"

    for _ in range(20_000):
        sleepers.submit(Job())
    assert sleepers.mean == pytest.approx(2.0, rel=0.05)
    ends = sorted(end for end, _, _ in sleepers._asleep)
    median = ends[len(ends) // 2]
    assert median == pytest.approx(2.0 * math.exp(-(SPREAD**2) / 2), rel=0.05)


def test_idle_workers_lower_the_busy_share():
    """Two workers, one of which is idle for all but the first of ten seconds."""
    sleepers = Sleepers(2, mean_seconds=1.0)
    sleepers._sleeps = [(0.0, 1.0), (0.0, 10.0), (10.0, 11.0)]
    assert sleepers.busy_share == pytest.approx(11 / 20)


def test_means_are_compared_instandard_errors_of_their_difference():
    assert standard_errors([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0
    assert standard_errors([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]) == pytest.approx(1 / math.sqrt(2 / 3))


@pytest.mark.parametrize("way", WAYS)
def test_the_trials_of_the_wide_resnet_are_table_2s(way):
    """Both differ from it in speed alone, or in how often they are evaluated."""
    study = load_study(find_config("table2"), scale="small")
    trial = trial_of(way, 3)
    changed = {k for k, v in trial.task_settings.items() if v != study.task[k]}
    assert changed <= set(settings_that_change(SPEED, describe("wide_resnet").Settings))
    assert (trial.training.epochs, trial.seed) == (study.training.epochs, 3)
