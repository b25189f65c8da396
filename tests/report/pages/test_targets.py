"""Time to a target and performance profiles, against what a hand counts."""

import math
from pathlib import Path
from typing import Any

import pytest

from nos_repro.experiments.trial import Trial
from nos_repro.report.pages.targets import (
    Racer,
    TimedRun,
    profiles,
    racers,
    target_of,
    targets,
)
from tests.report.pages.made_up import ending, found, made_up_study


def run(*values: float, seconds: float = 1.0) -> TimedRun:
    return TimedRun([(float(n), v) for n, v in enumerate(values, 1)], seconds, finished=True)


ROWS = [
    Racer(0, [run(50, 60, 70)]),
    Racer(1, [run(60, 65, 66, seconds=10.0)]),
    Racer(2, [run(40, 50, 55)]),
]
"""By hand. Targets: 70, 66, 55. Epochs to them: row 0: 3, 3, 2; row 1: never, 3, 1; row 2: never,
never, 3. The fastest: 3, 3, 1. Ratios: row 0: 1, 1, 2; row 1: -, 1, 1; row 2: -, -, 3."""


def test_a_target_is_what_a_row_ends_at_hardest_first() -> None:
    assert targets(ROWS) == [70, 66, 55]


@pytest.mark.parametrize(("share", "value"), [(0.25, 70), (0.5, 66), (0.75, 55), (1.0, 55)])
def test_a_share_of_the_rows_ends_at_its_target(share: float, value: float) -> None:
    assert target_of(ROWS, share) == value
    assert sum((row.end or 0) >= value for row in ROWS) >= share * len(ROWS)


def test_a_time_is_that_of_the_first_evaluation_as_good_as_the_target() -> None:
    assert run(50, 60, 70, 65).time(60) == 2
    assert run(50, 60, 70, 65).time(60.1) == 3
    assert run(50, 60, 70, seconds=7.0).seconds(70) == 21
    assert math.isinf(run(50).time(51))


def test_the_profiles_are_those_of_a_hand_calculation() -> None:
    found = profiles(ROWS)
    assert (found.problems, found.unsolved) == (3, 0)
    assert [each.taus for each in found.rows] == [[1, 2], [1], [1, 3]]
    expected = [[2 / 3, 1], [2 / 3], [0, 1 / 3]]
    for each, shares in zip(found.rows, expected, strict=True):
        assert each.shares == pytest.approx(shares)


def test_seconds_may_order_rows_differently_from_epochs() -> None:
    """Row 1 needs ten seconds per epoch: it reaches 55 in 10 s, row 0 in 2 s, row 2 in 3 s."""
    shares = [each.shares[0] for each in profiles(ROWS, seconds=True).rows]
    assert shares == pytest.approx([1, 0, 0])


def test_a_problem_is_a_target_and_a_run_and_an_unsolved_one_is_left_out() -> None:
    """The mean end of row 0 is 60, which its second run never reaches, nor does row 1's."""
    rows = [Racer(0, [run(70), run(50)]), Racer(1, [run(40), run(40)])]
    counted = profiles(rows)
    assert targets(rows) == [60, 40]
    assert (counted.problems, counted.unsolved) == (3, 1)
    assert [each.shares[-1] for each in counted.rows] == pytest.approx([1, 2 / 3])


def test_a_diverged_run_never_arrives_and_a_failure_takes_the_row_out(tmp_path: Path) -> None:
    def second(trial: Trial) -> dict[str, Any]:
        if trial.seed == 2 and trial.optimizer == "sgd":
            return {**ending(trial), "status": "diverged"}
        if trial.seed == 2 and trial.optimizer == "powersign":
            return {**ending(trial), "status": "failed"}
        return ending(trial)

    timed = racers(found(tmp_path, made_up_study(), second).rows)
    assert [racer.number for racer in timed] == [0, 2]
    assert math.isinf(timed[0].runs[1].time(0))
    assert timed[0].runs[0].time(0) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_run_lost_before_its_first_epoch_takes_no_row_the_race(order: tuple[int, int]) -> None:
    """It has no pace, and still never arrives: row 0 is the fastest of every problem."""
    lost = TimedRun([], 0.0, finished=False)
    rows = [Racer(0, [run(50, 60)]), Racer(1, [lost])]
    timed = profiles([rows[n] for n in order], seconds=True)
    assert {row.number: row.shares for row in timed.rows} == {0: [1.0], 1: [0.0]}


def test_a_time_of_zero_is_matched_only_by_another() -> None:
    rows = [Racer(0, [run(50, seconds=0.0)]), Racer(1, [run(50)]), Racer(2, [run(50, seconds=0.0)])]
    assert [row.shares[-1] for row in profiles(rows, seconds=True).rows] == [1.0, 0.0, 1.0]


def test_smaller_is_better_if_the_metric_says_so(tmp_path: Path) -> None:
    def loss(trial: Trial) -> dict[str, Any]:
        points = [{"epoch": n, "step": n, "val_loss": 1 / n} for n in (1, 2, 4)]
        return {"metrics": points, "metric": "loss", "direction": "min", "status": "finished"}

    timed = racers(found(tmp_path, ends=loss).rows)
    assert timed[0].end == -0.25
    assert timed[0].runs[0].time(-0.5) == 2
