"""`claims --plan`: the chance that more seeds decide a claim is the share of studies in which they
do, and the hours go where they decide most."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import pytest

from nos_repro.cli import main
from nos_repro.report.claims.evidence import Bounds, paired, single
from nos_repro.report.claims.judge import Judged, finding_of
from nos_repro.report.claims.kinds.rows import RowsTest
from nos_repro.report.claims.listed import Claim
from nos_repro.report.claims.more_seeds import chance, extended
from nos_repro.report.claims.plan import plan_of, plan_table
from nos_repro.report.claims.results import Results
from tests.report.claims.test_claims import OURS, Made, scored, small

BOUNDS = Bounds("better", tolerance=0.5)


def decided(ours: dict[int, float | None], theirs: dict[int, float | None]) -> bool:
    return single(paired("", ours, theirs, BOUNDS, "")).verdict != "undecided"


@pytest.mark.parametrize("more", [3, 10])
def test_predicted_chances_are_the_shares_of_simulated_studies_that_come_to_be_decided(
    more: int,
) -> None:
    """Studies of four seeds with any true difference; of those that are undecided, the seeds that
    are added for real decide as many as was predicted, among those with a small chance and among
    those with a large one."""
    source = random.Random(5)
    predicted: list[float] = []
    came_true: list[bool] = []
    while len(predicted) < 300:
        truth = source.uniform(-4, 4)
        ours: dict[int, float | None] = {seed: source.gauss(truth, 1) for seed in range(4)}
        theirs: dict[int, float | None] = dict.fromkeys(ours, 0.0)
        if decided(ours, theirs):
            continue
        extend = functools.partial(extended, ours, theirs, more=more, source=source)
        predicted.append(sum(decided(*extend()) for _ in range(30)) / 30)  # type: ignore[arg-type]
        real = {**ours, **{seed: source.gauss(truth, 1) for seed in range(4, 4 + more)}}
        came_true.append(decided(real, dict.fromkeys(real, 0.0)))
    order = sorted(range(300), key=predicted.__getitem__)
    for part in (order[:150], order[150:]):
        said = sum(predicted[n] for n in part) / 150
        was = sum(came_true[n] for n in part) / 150
        assert was == pytest.approx(said, abs=0.12), (said, was)


def plan_for(test: Any, made: Results, hours: float) -> Any:
    claim = Claim("ours-better", "Ours is better.", ("here",), test)
    return plan_of([Judged(claim, [test.judge(made, "small")])], made, hours)


def made_up(tmp_path: Path, gap: float, repeats: int = 4, **more: Any) -> Made:
    return Made(small(repeats, **more), tmp_path, scored(ours=60 + gap, theirs=60.0))


def test_a_claim_that_nearly_holds_is_planned_with_few_seeds_and_costs_what_its_rows_took(
    tmp_path: Path,
) -> None:
    test = RowsTest("made", column="best_test", ours=["ours"], theirs=["theirs"], margin=0.02)
    made = made_up(tmp_path, 0.0)
    assert test.judge(made, "small").verdict == "undecided"
    plan = plan_for(test, made, 1000.0)
    (option,) = plan.chosen
    study, rows = made.study("made", "small")
    per_seed = sum(row.counting[0].seconds for row in rows.values())
    assert option.hours == pytest.approx(option.more * per_seed / 3600)
    assert option.seeds == study.selection.repeats
    assert option.chances == {"ours-better": chance(test, made, "small", option.more)}
    assert 0 < option.decided <= 1
    text = plan_table(plan).text()
    assert f"selection.repeats={option.seeds + option.more}" in text
    assert plan_for(test, made, per_seed / 7200).chosen == [], "not even one seed fits"


def test_the_finding_of_an_undecided_claim_says_how_many_seeds_more_would_decide_it(
    tmp_path: Path,
) -> None:
    test = RowsTest("made", column="best_test", ours=["ours"], theirs=["theirs"], margin=0.02)
    made = made_up(tmp_path / "near", 0.06)
    needs = plan_for(test, made, 1000.0).needed["ours-better"]
    said = finding_of(test, made, "small").reason
    assert needs is not None
    assert said.endswith(f"; {needs} seeds more decide it with a chance of at least 80%")
    assert "seeds more" not in finding_of(OURS, made_up(tmp_path, 3.0), "small").reason


def test_more_seeds_have_a_larger_chance(tmp_path: Path) -> None:
    test = RowsTest("made", column="best_test", ours=["ours"], theirs=["theirs"], margin=0.02)
    made = made_up(tmp_path, 0.0)
    few, many = (chance(test, made, "small", more) for more in (1, 20))
    assert many > few + 0.1


@pytest.mark.parametrize(
    ("study", "why"),
    [
        ({"repeats": 1}, "one run per row has no spread"),
        ({"repeats": 0}, "its rows are not repeated"),
        ({"repeats": 4, "ours": [0.03, 0.1, 0.3], "theirs": [0.03, 0.1, 0.3]}, "at the edge"),
    ],
)
def test_what_no_seed_decides_says_why(study: dict[str, Any], why: str, tmp_path: Path) -> None:
    made = made_up(tmp_path, 0.0, **study)
    test = RowsTest("made", "level", "best_test", ours=["ours"], theirs=["theirs"], tolerance=0.05)
    assert test.judge(made, "small").verdict in ("undecided", "not run")
    plan = plan_for(test, made, 1000.0)
    assert plan.chosen == []
    assert why in plan.others["ours-better"]


def test_a_claim_that_is_decided_is_in_no_plan(tmp_path: Path) -> None:
    made = made_up(tmp_path, 3.0)
    plan = plan_for(OURS, made, 1000.0)
    assert (plan.chosen, plan.needed, plan.others) == ([], {}, {})


def test_a_plan_for_the_committed_records_is_one_document(
    committed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.report.test_documents import printed

    monkeypatch.setattr("nos_repro.report.claims.more_seeds.DRAWS", 20)

    found = printed(capsys, "claims", "--plan", "100", "--results", str(committed))
    assert found["kind"] == "plan"
    assert sum(run["hours"] for run in found["runs"]) <= 100
    assert main(["claims", "--plan", "0"]) == 2
    assert main(["claims", "rosenbrock-better", "--plan", "3"]) == 2
