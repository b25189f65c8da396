"""Duels of small ConvNets on the embedded digits: trained, killed, resumed, shown."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.record import Record
from nos_repro.launch.cost import Unit
from nos_repro.launch.duel.contest import DuelLimits, load_duel
from nos_repro.launch.duel.forecast import Forecast, check_affordable
from nos_repro.report.documents.base import schema
from tests.conftest import ROOT

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {
        "name": "convnet", "data": "digits", "batch_size": 20,
        "train_images": 200, "validation_images": 60,
    },
    "training": {"epochs": 1},
    "sweep": {"lr": [0.02, 0.05]},
    "selection": {"repeats": 1},
    "columns": {"best_test": "Best Test", "optimizer_state": "State"},
    "rows": {
        "PowerSign (plain)": {"optimizer": "powersign", "seed": 4},
        "PowerSign (cosine)": {"optimizer": "powersign", "schedule": "cosine"},
        "still": {"optimizer": "rule: g * 1e-9"},
        "wide": {"optimizer": "sgd", "sweep": {"lr": [0.01, 0.02, 0.05]}},
        "growing": {"optimizer": "sgd", "sweep": {"lr": {"around": 0.1}}},
        "exploding": {"optimizer": "rule: g * 1e30"},
    },
    "scales": {"smoke": {}, "halved": {"halving": {"rungs": [1]}, "training": {"epochs": 2},
                                       "selection": {"repeats": 0},
                                       "rows": {"growing": {"sweep": {"lr": [0.1]}}}}},
}  # fmt: skip
CHECKS = Draft202012Validator({"$ref": "#/$defs/duel", "$defs": schema()["$defs"]})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def stored(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(folder.glob("results/small/smoke/duels/*.json"))
    return [json.loads(path.read_text()) for path in paths]


def records(folder: Path) -> dict[str, Record]:
    lines = (folder / "results/small/smoke/records.jsonl").read_bytes().splitlines()
    found = [Record.read(line, "here") for line in lines]
    return {record.id: record for record in found}


def words(config: Path, *more: str) -> list[str]:
    return ["duel", "PowerSign", "still", str(config), "--scale", "smoke", "--workers", "0", *more]


def test_a_duel_is_trained_decided_stored_shown_and_not_trained_twice(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(config, "--seeds", "9", "--format", "json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert [error.message for error in CHECKS.iter_errors(found)] == []
    assert (found["verdict"], found["ended"]) == ("better", "decided")
    low, high = found["interval"]
    assert 0 < low < found["difference"] < high
    assert [row["points"] for row in found["rows"]] == [2, 2]
    trained = records(tmp_path)
    assert len(trained) == 2 * (2 + len(found["seeds"]))
    pairs = found["seeds"][: found["pairs"]]
    for pair in pairs:  # both rows on the same seed, though one row of the study has another
        own = [r for r in trained.values() if r.trial["seed"] == pair["seed"]]
        assert sorted(r.column("best_test") for r in own) == sorted(pair["scores"])
    differences = [a - b for a, b in (pair["scores"] for pair in pairs)]
    assert found["difference"] == pytest.approx(sum(differences) / len(differences))
    assert stored(tmp_path) == [found]

    failing = next(r for r in trained.values() if r.trial["seed"] == pairs[2]["seed"])
    path = tmp_path / "results/small/smoke/trials" / failing.id / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "status": "failed", "reason": "made up"}))
    assert main(words(config, "--seeds", "9")) == 1
    assert "ended: a trial failed, `--retry` tries it again" in capsys.readouterr().out
    assert main(words(config, "--seeds", "9", "--retry")) == 0
    capsys.readouterr()
    assert stored(tmp_path)[0]["seeds"] == found["seeds"]

    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("record.json")}
    assert main(words(config, "--seeds", "9")) == 0
    text = capsys.readouterr().out
    assert "PowerSign (plain) against still" in text
    assert "verdict: PowerSign (plain) is better: the interval leaves out 0" in text
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("record.json")} == written

    report = ["report", str(config), "--scale", "smoke"]
    assert main(report) == 0
    line = r"duels:\n  PowerSign \(plain\) against still, Best Test: PowerSign \(plain\) is better;"
    assert re.search(line, capsys.readouterr().out)
    assert main([*report, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["duels"] == stored(tmp_path)
    assert main([*report, "--html", "page.html"]) == 0
    assert "PowerSign (plain) against still, Best Test" in Path("page.html").read_text()
    capsys.readouterr()
    duels = tmp_path / "results/small/smoke/duels"
    (own,) = duels.iterdir()
    own.write_text(own.read_text().replace(found["rows"][0]["code"], "0" * 12))
    assert main(report) == 0
    assert "CPU-hours, " in (said := capsys.readouterr().out)
    assert said.rstrip().endswith("; stale")
    (duels / "broken.json").write_text("{}")
    assert main(report) == 0
    assert "broken.json: not a duel" in capsys.readouterr().err


def test_where_the_seed_changes_nothing_that_is_said_and_smaller_is_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rosenbrock's function from one start."""
    study = {
        "study": "valley", "task": {"name": "rosenbrock"}, "training": {"epochs": 2},
        "sweep": {"lr": [0.001]}, "selection": {"by": "final_val", "repeats": 1},
        "columns": {"final_val": "Loss"},
        "rows": {"Adam": {"optimizer": "adam"}, "still": {"optimizer": "rule: g * 1e-9"}},
        "scales": {"smoke": {}},
    }  # fmt: skip
    path = tmp_path / "valley.yaml"
    path.write_text(yaml.safe_dump(study))
    asked = ["duel", "Adam", "still", str(path), "--scale", "smoke", "--workers", "0"]
    assert main([*asked, "--seeds", "6", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "the seed changes nothing" in found["reason"]
    assert (found["verdict"], found["pairs"], found["direction"]) == ("undecided", 3, "min")
    one, other = found["seeds"][0]["scores"]
    assert one < other
    assert found["difference"] == pytest.approx(one - other)
    assert main([*asked, "--seeds", "6"]) == 0
    said = capsys.readouterr()
    assert "Loss, smaller is better" in said.out
    assert f"3 pairs: Adam less still {one - other:+.3f}"[:20] in said.err


@pytest.mark.slow
def test_seeds_run_out_and_a_larger_budget_goes_on_from_there(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PowerSign against the same with other rates: nearly alike."""
    asked = ["duel", "rule: 1.001 * exp(sign(g) * sign(m)) * g", "PowerSign", str(config),
             "--scale", "smoke", "--workers", "0"]  # fmt: skip
    assert main([*asked, "--seeds", "6"]) == 0
    said = capsys.readouterr()
    assert "verdict: undecided after 6 pairs of seeds" in said.out
    assert "ended: all seeds that were allowed are used" in said.out
    before = records(tmp_path)
    assert main([*asked, "--seeds", "7"]) == 0
    assert records(tmp_path).keys() > before.keys()
    assert [each["pairs"] for each in stored(tmp_path)] == [7]


def test_a_row_that_never_trains_has_no_pairs(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["duel", "exploding", "still", str(config), "--scale", "smoke", "--workers", "0"]
    assert main([*asked, "--seeds", "6"]) == 0
    assert "every point of the grid diverged: exploding" in capsys.readouterr().out


def test_hours_end_a_duel_and_a_budget_that_decides_nothing_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(config, "--budget", "0.0001min")) == 2
    assert "6 pairs are the fewest that can decide: give at least" in capsys.readouterr().err
    assert main(words(config, "--budget", "2h", "--dry-run")) == 0
    said = capsys.readouterr().out
    assert re.search(r"tuning: 4 trials to run, 0\.00\d*[1-9]", said), "small, but not nothing"
    assert "the fewest that can decide are 6 pairs" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("pair", [0.0712, 0.0788, 1.01, 16.9])
def test_the_least_budget_that_is_named_suffices(config: Path, pair: float) -> None:
    prices: Any = SimpleNamespace(unit=Unit("CPU-hours", 1))
    known = Forecast(prices, 0.0, 0.0, pair, 0)
    small = load_duel(config, "PowerSign", "still", DuelLimits(hours=1e-3), scale="smoke")
    with pytest.raises(ConfigError, match="give at least") as error:
        check_affordable(small, known)
    named = float(str(error.value).rpartition("give at least ")[2])
    enough = dataclasses.replace(small, limits=DuelLimits(hours=named))
    check_affordable(enough, known)


# fmt: off
WRONG = [
    (("PowerSign", "still"), {}, "no budget: say when it ends"),
    (("PowerSign", "still"), {"pairs": 3}, "--seeds must be from 6"),
    (("PowerSign", "still"), {"hours": 0.0}, "--budget must be a positive time"),
    (("still", "still"), {"pairs": 9}, "'still' and 'still' are both the row 'still'"),
    (("powersign", "PowerSign (plain)"), {"pairs": 9}, "are both the row"),
    (("rule: g * 1e-9", "still"), {"pairs": 9}, "are the same training"),
    (("PowerSign", "g * exp(sign(m) * sign(g))"), {"pairs": 9}, "are the same rule, written diff"),
    (("powersing", "still"), {"pairs": 9}, "neither a row of small nor an optimizer"),
    (("wide", "still"), {"pairs": 9}, "unequal tuning: 'wide' is tuned over 3 points"),
    (("growing", "wide"), {"pairs": 9}, "'growing' is tuned over 3 points, which may grow"),
]
# fmt: on


@pytest.mark.parametrize(("sides", "limits", "said"), WRONG)
def test_a_duel_that_cannot_be_is_one_error(
    config: Path, sides: tuple[str, str], limits: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_duel(config, *sides, DuelLimits(**limits), scale="smoke")


@pytest.mark.parametrize(("options", "said"), [
    ({"margin": -1.0}, "--margin must be a positive number"),
    ({"column": "optimizer_state"}, "nothing to compare"),
    ({"column": "best_text"}, "did you mean 'best_test'"),
    ({"like": "wide"}, "--like is for an optimizer that is no row"),
    ({"scale": "halved"}, "halving stops rows early"),
])  # fmt: skip
def test_impossible_options_are_one_error(config: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_duel(config, "PowerSign", "still", DuelLimits(9), **{"scale": "smoke", **options})


def test_a_study_that_measures_nothing_has_nothing_to_compare(config: Path) -> None:
    config.write_text(yaml.safe_dump({**SMALL, "columns": {"optimizer_state": "State"}}))
    with pytest.raises(ConfigError, match="nothing to compare"):
        load_duel(config, "PowerSign", "still", DuelLimits(9), scale="smoke")


def test_an_optimizer_takes_a_rows_place_with_its_grid_and_schedule(config: Path) -> None:
    groups = {"no_decay": ["biases"]}
    wide = {"name": "sgd", "foreach": False, "groups": groups}
    found = load_duel(config, "torch.optim.AdamW", "wide", DuelLimits(9), scale="smoke",
                      overrides=[f"rows.wide.optimizer={json.dumps(wide)}"])  # fmt: skip
    row = found.study.rows["torch.optim.AdamW"]
    assert row.optimizer == "torch.optim.AdamW"
    assert row.sweep == {"lr": [0.01, 0.02, 0.05]}
    assert row.options == {"groups": groups}
    both = load_duel(config, "adam", "g + drop(m, 0.3)", DuelLimits(9), scale="smoke",
                     like="PowerSign (cosine)")  # fmt: skip
    assert [row.schedule for row in both.study.rows.values()] == ["cosine", "cosine"]
    assert both.column == "best_test"


def test_a_name_means_the_row_with_the_studys_own_schedule(config: Path) -> None:
    found = load_duel(config, "powersign", "still", DuelLimits(9), scale="smoke")
    assert found.one == "PowerSign (plain)"
    rows = {**SMALL["rows"], "PowerSign (more)": {"optimizer": "powersign"}}
    config.write_text(yaml.safe_dump({**SMALL, "rows": rows}))
    with pytest.raises(ConfigError, match="may be one of several rows"):
        load_duel(config, "powersign", "still", DuelLimits(9), scale="smoke")


def command(config: Path, results: Path) -> list[str]:
    return [
        sys.executable, "-m", "nos_repro", "duel", "PowerSign", "still", str(config),
        "--scale", "smoke", "--seeds", "8", "--workers", "1", "--results", str(results),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.drill
def test_a_duel_that_is_killed_goes_on_and_two_at_once_share_the_work(
    config: Path, tmp_path: Path
) -> None:
    """One is killed once it has a pair; two then finish it, and no trial has two records."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    results = tmp_path / "results"
    first = subprocess.Popen(command(config, results), env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(results.rglob("record.json"))) < 6 and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {p: p.read_bytes() for p in results.rglob("record.json")}
    assert len(before) >= 6
    both = [
        subprocess.Popen(
            command(config, results), env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0].splitlines()[:6] == said[1][0].splitlines()[:6]
    assert {p: p.read_bytes() for p in before} == before
    (document,) = stored(tmp_path)
    assert document["ended"] == "decided"
    assert len(records(tmp_path)) == len(list(results.rglob("record.json")))
