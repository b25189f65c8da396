"""Rates that grow until the best one lies inside, equally many in every row."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.growing import Growth, growth_of
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Halving, Row, Selection, Study
from nos_repro.experiments.selection import Outcome, outcome, outcomes
from nos_repro.experiments.store import Store
from tests.experiments.helpers import digits_study, write_record

Quality = Callable[[str, float], float | None]
"""The validation accuracy of a row's optimizer at a rate; None where it diverges."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, "tiny", "smoke")


def growing_study(**growth: Any) -> Study:
    lr = {"around": 0.1, "factor": 10.0, **growth}
    return digits_study(sweep={"lr": lr}, selection=Selection(repeats=1))


def peak_at(**best: float) -> Quality:
    """A parabola over the logarithm of the rate, one for each optimizer."""
    return lambda optimizer, lr: 90 - 5 * math.log10(lr / best[optimizer]) ** 2


def train(study: Study, store: Store, quality: Quality, order: random.Random) -> list[Outcome]:
    """Records what the study asks for, one trial after the other, until it asks for nothing."""
    while legs := [leg for row in outcomes(study, store) for leg in row.legs]:
        trial = order.choice(legs).trial
        value = quality(trial.optimizer, trial.lr)
        metrics = [] if value is None else [{"epoch": 1, "val_accuracy": value}]
        status = "diverged" if value is None else "finished"
        write_record(store.folder(trial), trial, status=status, metrics=metrics)
    return outcomes(study, store)


def rates(row: Outcome) -> list[float]:
    return [scored.point.lr for scored in row.sweep]


def test_rates_are_steps_of_the_factor_rounded_as_people_write_them() -> None:
    growth = Growth(0.1)
    assert growth.rates(growth.start) == [0.032, 0.1, 0.32]
    assert growth.rates(growth.possible)[0] == pytest.approx(0.1 / math.sqrt(10) ** 7, rel=0.05)
    assert len(set(Growth(0.07, 1.2, most=99).rates(Growth(0.07, 1.2, most=99).possible))) == 195


def test_a_sweep_grows_until_the_best_rate_is_inside_and_rows_try_equally_many(
    store: Store,
) -> None:
    study = growing_study()
    sgd, powersign = train(study, store, peak_at(sgd=12.0, powersign=0.1), random.Random(0))
    assert rates(sgd) == [0.01, 0.1, 1.0, 10.0, 100.0]
    assert sgd.chosen is not None
    assert sgd.chosen.point.lr == 10.0
    assert powersign.chosen is not None
    assert powersign.chosen.point.lr == 0.1
    assert rates(powersign) == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert not sgd.edges
    assert not powersign.edges
    assert not sgd.growing
    assert [len(row.repeats) for row in (sgd, powersign)] == [1, 1]


def test_what_is_tried_does_not_depend_on_the_order_in_which_trials_end(tmp_path: Path) -> None:
    quality = peak_at(sgd=300.0, powersign=0.0004)
    tried = []
    for seed in range(5):
        rows = train(growing_study(), Store(tmp_path, f"s{seed}", "smoke"), quality,
                     random.Random(seed))  # fmt: skip
        tried.append([rates(row) for row in rows])
    assert all(one == tried[0] for one in tried)


def test_a_new_rate_that_is_better_than_all_others_makes_the_sweep_grow_on(store: Store) -> None:
    """PowerSign's second peak is found only since SGD has more rates."""

    def quality(optimizer: str, lr: float) -> float:
        return 99.0 if optimizer == "powersign" and lr < 0.005 else peak_at(
            sgd=2000.0, powersign=0.1)(optimizer, lr)  # fmt: skip

    sgd, powersign = train(growing_study(most=7), store, quality, random.Random(1))
    assert len(sgd.sweep) == len(powersign.sweep) == 7
    assert powersign.chosen is not None
    assert powersign.chosen.point.lr < 0.005


def test_where_rates_diverge_smaller_ones_are_tried(store: Store) -> None:
    def quality(optimizer: str, lr: float) -> float | None:
        return None if lr > 2e-3 else peak_at(sgd=1e-3, powersign=1e-3)(optimizer, lr)

    for row in train(growing_study(), store, quality, random.Random(2)):
        assert row.chosen is not None
        assert row.chosen.point.lr == 1e-3
        assert rates(row)[0] == 1e-4


def test_a_sweep_ends_at_its_most_and_says_that_the_best_rate_is_at_the_edge(store: Store) -> None:
    rows = train(growing_study(most=5), store, lambda _, lr: math.log10(lr), random.Random(3))
    for row in rows:
        assert len(row.sweep) == 5
        assert row.edges == ["lr=100"]


def test_a_sweep_that_diverges_everywhere_ends_too(store: Store) -> None:
    rows = train(growing_study(most=5), store, lambda _, lr: None, random.Random(4))
    assert [(len(row.sweep), row.chosen, row.diverged) for row in rows] == [(5, None, 5)] * 2


def test_a_failure_by_a_bug_does_not_make_a_sweep_grow(store: Store) -> None:
    study = growing_study()
    for row in outcomes(study, store):
        for scored in row.sweep:
            failed = row.name == "SGD" and scored.point.lr == 1.0
            write_record(store.folder(scored.trial), scored.trial, metrics=[{
                "epoch": 1, "val_accuracy": 50 + scored.point.lr if row.name == "SGD"
                else -abs(math.log10(scored.point.lr) + 1)}],
                status="failed" if failed else "finished")  # fmt: skip
    sgd, powersign = outcomes(study, store)
    assert len(sgd.sweep) == len(powersign.sweep) == 3


def test_repeats_wait_for_the_other_rows(store: Store) -> None:
    study = growing_study()
    first, _ = outcomes(study, store)
    for scored in first.sweep:
        value = peak_at(sgd=0.1)("sgd", scored.point.lr)
        write_record(store.folder(scored.trial), scored.trial,
                     metrics=[{"epoch": 1, "val_accuracy": value}])  # fmt: skip
    row = outcome(study, "SGD", store)
    assert row.growing
    assert row.chosen is None
    assert not row.legs
    assert len(outcome(study, "PowerSign", store).legs) == 3


# fmt: off
WRONG = [
    ({"around": 0.1, "until": "outside"},  r"unknown value of until: 'outside'"),
    ({"around": -0.1},                     r"around must be a positive finite number"),
    ({"around": "tiny"},                   r"sweep.lr.around: expected a number"),
    ({"around": 0.1, "factor": 1.0},       r"factor must be between 1.2 and 100"),
    ({"around": 0.1, "points": 4},         r"points must be an odd number from 3 on"),
    ({"around": 0.1, "points": 5, "most": 3}, r"most must be between points \(5\) and 99"),
    ({"around": 0.1, "facto": 3},          r"unknown key 'facto'"),
    ({"factor": 3},                        r"around is missing"),
]
# fmt: on


@pytest.mark.parametrize(("values", "error"), WRONG)
def test_a_mistake_in_rates_that_grow_is_one_error(values: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        growth_of({"lr": values})


def test_only_rates_grow_and_not_in_a_race() -> None:
    with pytest.raises(ConfigError, match=r"rows.SGD.sweep.weight_decay: only lr can grow"):
        digits_study({"SGD": Row("sgd", sweep={"weight_decay": {"around": 0.1}})})
    with pytest.raises(ConfigError, match=r"halving ranks all points .* rows.SGD"):
        digits_study(
            sweep={"lr": {"around": 0.1}},
            selection=Selection(),
            halving=Halving([1]),
            training=digits_study().training.__class__(epochs=2),
        )


STUDY = """
study: growing
task: {name: convnet, data: digits, batch_size: 50, train_images: 200, validation_images: 100}
training: {epochs: 1}
sweep: {lr: {around: 1.0e-3, factor: 10.0, most: 7}}
selection: {repeats: 1}
rows:
  SGD: {optimizer: sgd}
  SGD with weight decay: {optimizer: sgd, sweep: {weight_decay: [0.0, 1.0e-3]}}
scales: {smoke: {}}
"""


def test_a_real_study_grows_and_goes_on_from_its_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "growing.yaml"
    file.write_text(STUDY)
    where = [str(file), "--scale", "smoke", "--results", str(tmp_path / "results")]
    assert main(["run", *where, "--dry-run", "--workers", "0"]) == 0
    assert "up to 4 more in each row" in capsys.readouterr().out
    assert main(["run", *where, "--workers", "0"]) == 0
    study = load_study(file, scale="smoke")
    store = Store(tmp_path / "results", "growing", "smoke")
    rows = outcomes(study, store)
    lengths = [len({scored.point.lr for scored in row.sweep}) for row in rows]
    assert lengths[0] == lengths[1] > 3, "1e-3 is far below the best rate"
    for row in rows:
        assert row.chosen is not None
        assert not row.missing
        assert not row.edges
    assert main(["status", *where]) == 0
    assert main(["why", f"{file}:SGD", *where[1:]]) == 0
    assert "edge" not in capsys.readouterr().out
