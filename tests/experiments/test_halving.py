"""Which rows continue at a rung: against examples worked out by hand."""

import random

import pytest

from nos_repro.experiments.halving import (
    RungResult,
    Standing,
    places,
    stages,
    standings,
    whole,
    why_out,
)
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Halving

TWO_RUNGS = Halving(rungs=[2, 4], keep=0.5)


def curve(*values, status="paused", direction="max", rungs=(2, 4)):
    """A record whose validation metric is ``values``, an epoch each."""
    metrics = [{"epoch": n, "val_accuracy": v} for n, v in enumerate(values, 1)]
    return Record(
        "0", status, {}, "accuracy", direction, metrics, 1, 1.0, 1.0, 0.1, "", rungs=list(rungs)
    )


def rung_of(rows):
    return standings(TWO_RUNGS, 8, rows)


def test_before_the_first_rung_every_point_is_in():
    now = rung_of({"a": [curve(1, 2), None], "b": [curve(1), curve(5, 5)]})
    assert now == {"a": Standing((0, 1), 2), "b": Standing((0, 1), 2)}


def test_the_best_half_continues_each_row_with_its_best_point():
    """Best so far: a 50 (its 2nd point), b 40, c 60 (at epoch 1, then worse), d 55, e 10."""
    now = rung_of(
        {
            "a": [curve(10, 20), curve(50, 30)],
            "b": [curve(40, 39)],
            "c": [curve(60, 5), curve(20, 55)],
            "d": [curve(1, 55)],
            "e": [curve(10, 10)],
        }
    )
    assert now == {
        "a": Standing((1,), 4, 1, RungResult(2, 3, 5, 3)),
        "b": Standing((), 4, 0, RungResult(2, 4, 5, 3)),
        "c": Standing((0,), 4, 0, RungResult(2, 1, 5, 3)),
        "d": Standing((0,), 4, 0, RungResult(2, 2, 5, 3)),
        "e": Standing((), 4, 0, RungResult(2, 5, 5, 3)),
    }


def test_a_rung_waits_for_the_last_trial_and_later_curves_do_not_change_it():
    """At epoch 2 b leads; a, with 99 later, stays out. Of two at epoch 4, one continues."""
    early = {"a": [curve(10, 20, 99, 99)], "b": [curve(30, 30)], "c": [curve(20, 25)]}
    now = rung_of(early)
    assert [row for row, standing in now.items() if standing.points] == ["b", "c"]
    assert now["b"].until == 4
    late = {**early, "b": [curve(30, 30, 31, 32)]}
    assert rung_of(late)["b"].until == 4, "c is still on the way"
    late["c"] = [curve(20, 25, 40, 35)]
    now = rung_of(late)
    assert now["c"] == Standing((0,), 8, 0, RungResult(4, 1, 2, 1))
    assert now["b"] == Standing((), 8, 0, RungResult(4, 2, 2, 1))
    assert now["a"].place == RungResult(2, 3, 3, 2)


def test_equal_rows_rank_in_the_studys_order_and_equal_points_in_the_grids():
    now = rung_of({"z": [curve(5, 5), curve(5, 5)], "a": [curve(5, 5)], "m": [curve(5, 5)]})
    assert [standing.place.rank for standing in now.values()] == [1, 2, 3]
    assert now["z"].points == (0,)
    assert now["m"].points == ()


def test_a_divergence_ranks_last_and_never_continues():
    """Two of four would continue, but only one has reached the rung."""
    now = rung_of(
        {
            "diverged": [curve(90, status="diverged"), curve(status="diverged")],
            "failed": [curve(95, status="failed")],
            "one point left": [curve(status="diverged"), curve(1, 1)],
        }
    )
    assert now["one point left"] == Standing((1,), 4, 1, RungResult(2, 1, 3, 1))
    assert now["diverged"].points == now["failed"].points == ()


def test_a_trial_that_diverges_after_a_rung_counts_as_healthy_there():
    rows = {"a": [curve(50, 60, 61, status="diverged")], "b": [curve(10, 20)]}
    now = rung_of(rows)
    assert now["a"] == Standing((), 8, 0, RungResult(4, 1, 1, 0)), "at epoch 4 nobody is left"
    assert now["b"].place == RungResult(2, 2, 2, 1)


def test_a_minimised_metric_ranks_the_least_first():
    now = rung_of({"a": [curve(3, 2, direction="min")], "b": [curve(1, 9, direction="min")]})
    assert [standing.place.rank for standing in now.values()] == [2, 1]


def test_the_last_value_decides_if_the_study_says_so():
    rows = {"a": [curve(9, 1)], "b": [curve(2, 2)]}
    now = standings(Halving(rungs=[2], keep=0.5, by="final_val"), 4, rows)
    assert [standing.place.rank for standing in now.values()] == [2, 1]


@pytest.mark.parametrize(
    ("keep", "rows", "kept"), [(0.5, 5, 3), (0.55, 100, 55), (0.1, 30, 3), (0.01, 3, 1), (1, 7, 7)]
)
def test_the_share_is_taken_as_it_is_written(keep, rows, kept):
    assert places(Halving(rungs=[1], keep=keep), rows) == kept


def test_the_epochs_of_a_whole_race_are_counted_by_hand():
    """12 rows of 3 points: 36 to epoch 2, then 6 rows two epochs, then 3 rows four."""
    points = {str(n): 3 for n in range(12)}
    assert whole(TWO_RUNGS, 8, points) == 36 * 2 + 6 * 2 + 3 * 4
    now = rung_of({"a": [curve(1, 2)], "b": [curve(3, 4)], "c": [curve(5, 6)], "d": [None]})
    assert [(s.rows, s.of, s.start, s.end) for s in stages(TWO_RUNGS, 8, now)] == [
        (2, 4, 2, 4),
        (1, 2, 4, 8),
    ]


def test_the_reason_names_the_rung_at_which_a_point_was_stopped():
    names = ["lr=1", "lr=2"]
    out_first = Standing((), 4, 1, RungResult(2, 9, 12, 6))
    out_later = Standing((), 8, 1, RungResult(4, 5, 6, 3))
    rank = "stopped at epoch 2: rank 9 of 12, 6 went on"
    assert why_out(TWO_RUNGS, out_first, 0, names) == (2, rank)
    assert why_out(TWO_RUNGS, out_first, 1, names) == (2, rank)
    other = "stopped at epoch 2: lr=2 of its row was better"
    assert why_out(TWO_RUNGS, out_later, 0, names) == (2, other)
    assert why_out(TWO_RUNGS, out_later, 1, names)[0] == 4


def test_a_clone_decides_as_the_whole_curves_did():
    """300 epochs are thinned when they are committed: what a rung looks at is kept."""
    halving = Halving(rungs=[50, 125, 250], keep=0.5)
    draw = random.Random(0)
    for _ in range(20):
        rows = {
            str(n): [
                curve(
                    *(draw.gauss(50, 5) for _ in range(300)), status="finished", rungs=halving.rungs
                )
            ]
            for n in range(8)
        }
        thinned = {name: [record.thinned() for record in of] for name, of in rows.items()}
        assert all(len(of[0].metrics) < 150 for of in thinned.values())
        assert standings(halving, 300, thinned) == standings(halving, 300, rows)
        assert [r.thinned() for of in thinned.values() for r in of] == [
            r for of in thinned.values() for r in of
        ]
