"""The runner, with subjects that need no clock: what it counts, compares and stores."""

import json
from pathlib import Path

import pytest

from nos_repro.bench import runner
from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave, run_benchmarks
from nos_repro.errors import ConfigError
from nos_repro.experiments.files import StoreError


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test's own benchmark, and none discovered."""
    monkeypatch.setattr(BENCHMARKS, "_entries", {})
    monkeypatch.setattr(BENCHMARKS, "_found", {})
    monkeypatch.setattr(BENCHMARKS, "_shipped", {})


def test_subjects_take_turns_and_the_order_is_reversed_every_other_round() -> None:
    calls: list[str] = []
    times = interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warmup=1
    )
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba"
    assert [len(times[name]) for name in "ab"] == [3, 3]


def test_a_ratio_is_the_median_of_the_rounds_and_keeps_its_spread() -> None:
    ratio = Ratio.between({"ours": [1.0, 4.0, 3.0], "theirs": [2.0, 2.0, 2.0]}, "ours", "theirs")
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds) == (1.5, 0.5, 2.0, 3)
    assert str(ratio) == "1.5 [0.5, 2] x"


def test_a_rate_is_items_over_seconds() -> None:
    assert str(Ratio.rate([0.5, 0.25], 1000, "images/s")) == "3,000 [2,000, 4,000] images/s"


def test_a_ratio_of_unequal_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Ratio.between({"ours": [1.0], "theirs": [1.0, 2.0]}, "ours", "theirs")


# fmt: off
BUDGETS = [
    (Measurement("time",  Ratio.of([0.8]), at_most=0.8),  True,  "<= 0.8: met"),
    (Measurement("time",  Ratio.of([0.9]), at_most=0.8),  False, "<= 0.8: MISSED"),
    (Measurement("speed", Ratio.of([3.1]), at_least=3.0), True,  ">= 3: met"),
    (Measurement("speed", Ratio.of([2.9]), at_least=3.0), False, ">= 3: MISSED"),
    (Measurement("info",  Ratio.of([1.0])),               None,  "-"),
]
# fmt: on


@pytest.mark.parametrize(("row", "met", "budget"), BUDGETS)
def test_a_missed_budget_is_shown_as_missed(
    row: Measurement, met: bool | None, budget: str
) -> None:
    assert (row.met, row.budget) == (met, budget)


@pytest.mark.usefixtures("own_registry")
def test_a_run_stores_rows_with_provenance_and_reports_a_missed_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @BENCHMARKS.register("honest")
    def honest() -> list[Measurement]:
        return [
            Measurement("fast enough", Ratio.of([0.5]), at_most=1),
            Measurement("slow", Ratio.of([2.0]), 1),
        ]

    assert run_benchmarks([], tmp_path)[1] == 1
    printed = capsys.readouterr().out
    assert "<= 1: met" in printed
    assert "<= 1: MISSED" in printed
    record = json.loads((tmp_path / "bench" / "honest.json").read_text())
    assert [row["met"] for row in record["rows"]] == [True, False]
    for key in ("device", "cores", "libraries", "python", "commit", "date"):
        assert key in record
    assert [p.name for p in (tmp_path / "bench").iterdir()] == ["honest.json"]


@pytest.mark.usefixtures("own_registry")
def test_an_unknown_benchmark_is_the_users_mistake_and_runs_nothing(tmp_path: Path) -> None:
    BENCHMARKS.register("optimizer-step")(list)
    with pytest.raises(ConfigError, match="optimizer-step"):
        run_benchmarks(["optimiser-step"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space"):
        runner.store(path, "old", [], seconds=0.0)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("own_registry")
def test_a_benchmark_that_cannot_run_here_keeps_numbers_measured_elsewhere(tmp_path):
    BENCHMARKS.register("absent")(list)
    (tmp_path / "bench").mkdir()
    stored = tmp_path / "bench/absent.json"
    stored.write_text("measured elsewhere")
    assert run_benchmarks(["absent"], tmp_path) == ([], 0)
    assert stored.read_text() == "measured elsewhere"


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("result", [None, [1.5]])
def test_a_benchmark_that_returns_no_measurements_is_one_error(result, tmp_path) -> None:
    BENCHMARKS.register("nothing")(lambda: result)
    with pytest.raises(ConfigError, match="benchmark nothing: expected a list of Measurement"):
        run_benchmarks(["nothing"], tmp_path)
