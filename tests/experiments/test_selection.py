"""Sweep, choice on validation, repeats over fresh seeds."""

import statistics

import pytest

from nos_repro.experiments.grid import points
from nos_repro.experiments.schema import Row, Selection
from nos_repro.experiments.selection import outcome
from nos_repro.experiments.store import Store
from tests.experiments.helpers import digits_study, write_record


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "tiny", "smoke")


def curve(val, test):
    return [
        {"epoch": 1, "val_accuracy": val, "test_accuracy": test},
        {"epoch": 2, "val_accuracy": val - 5, "test_accuracy": test + 3},
    ]


def score(store, row, values):
    """Writes a record for each trial of the sweep, in the grid's order."""
    for scored, value in zip(row.sweep, values, strict=True):
        status = "finished" if value is not None else "diverged"
        metrics = curve(value, value) if value is not None else []
        write_record(store.folder(scored.trial), scored.trial, status=status, metrics=metrics)


def test_the_grid_is_the_product_of_the_swept_keys_and_a_row_may_replace_a_key():
    row = Row("adam", sweep={"eps": [1e-8, 1e-3], "lr": [0.5]})
    grid = points(digits_study({"Adam": row}), row)
    assert [dict(point.values) for point in grid] == [
        {"lr": 0.5, "eps": 1e-8},
        {"lr": 0.5, "eps": 1e-3},
    ]


def test_no_repeat_starts_before_the_whole_sweep_has_ended(store):
    study = digits_study()
    row = outcome(study, "SGD", store)
    write_record(store.folder(row.sweep[0].trial), row.sweep[0].trial)
    row = outcome(study, "SGD", store)
    assert row.chosen is None
    assert row.repeats == []
    assert row.missing == 1


def test_the_choice_is_made_on_validation_and_the_number_on_fresh_seeds(store):
    study = digits_study()
    score(store, outcome(study, "SGD", store), [40.0, 60.0])
    row = outcome(study, "SGD", store)
    assert dict(row.chosen.point.values)["lr"] == 0.1
    assert {trial.seed for trial, _ in row.repeats} == {1, 2}
    assert row.number("best_test") is None
    for (trial, _), value in zip(row.repeats, (50.0, 54.0), strict=True):
        write_record(store.folder(trial), trial, metrics=curve(value, value))
    row = outcome(study, "SGD", store)
    best, final = row.number("best_test"), row.number("final_test")
    assert (best.mean, best.std, best.n) == (52.0, statistics.stdev([50.0, 54.0]), 2)
    assert final.mean == 55.0
    assert row.missing == 0


def test_a_divergence_loses_against_any_number(store):
    study = digits_study()
    score(store, outcome(study, "SGD", store), [10.0, None])
    assert dict(outcome(study, "SGD", store).chosen.point.values)["lr"] == 0.01


def test_a_row_that_diverged_everywhere_has_no_number_and_nothing_left_to_run(store):
    study = digits_study()
    score(store, outcome(study, "SGD", store), [None, None])
    row = outcome(study, "SGD", store)
    assert (row.chosen, row.missing, row.diverged) == (None, 0, 2)


def test_a_minimised_metric_chooses_the_least(store):
    study = digits_study(selection=Selection(by="final_val"), columns={"final_val": "Loss"})
    row = outcome(study, "SGD", store)
    for scored, loss in zip(row.sweep, (0.5, 0.2), strict=True):
        write_record(
            store.folder(scored.trial),
            scored.trial,
            metric="loss",
            direction="min",
            metrics=[{"epoch": 1, "val_loss": loss}],
        )
    row = outcome(study, "SGD", store)
    assert row.number("final_val").mean == 0.2
    assert row.number("final_val").n == 1


@pytest.mark.parametrize(
    ("scores", "edges"),
    [([1.0, 2.0, 3.0], ["lr=0.3"]), ([3.0, 2.0, 1.0], ["lr=0.01"]), ([1.0, 3.0, 2.0], [])],
)
def test_a_best_rate_at_the_edge_of_its_grid_is_noticed(store, scores, edges):
    study = digits_study(sweep={"lr": [0.01, 0.1, 0.3]})
    score(store, outcome(study, "SGD", store), scores)
    assert outcome(study, "SGD", store).edges == edges


def test_a_failed_trial_has_no_score_and_is_counted(store):
    study = digits_study()
    row = outcome(study, "SGD", store)
    for scored, status in zip(row.sweep, ("failed", "finished"), strict=True):
        write_record(store.folder(scored.trial), scored.trial, status=status)
    row = outcome(study, "SGD", store)
    assert row.failed == 1
    assert dict(row.chosen.point.values)["lr"] == 0.1


def test_a_number_made_by_other_code_is_stale(store):
    study = digits_study()
    score(store, outcome(study, "SGD", store), [1.0, 2.0])
    assert outcome(study, "SGD", store).stale


def test_rows_that_ask_for_the_same_training_share_its_trials(store):
    study = digits_study({"one": Row("sgd"), "two": Row("sgd"), "other draw": Row("sgd", seed=1)})
    one, two, other = ({t.id for t in outcome(study, n, store).trials} for n in study.rows)
    assert one == two
    assert not one & other
