"""The cost of a study per row: a known price, the best use of a budget, predicted and actual."""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.estimate import Cost, model_key, plan
from nos_repro.experiments.files import write_json
from nos_repro.experiments.schema import Halving, Row, Selection, Study
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import make_settings
from nos_repro.launch.cost import (
    RowCost,
    Unit,
    accuracy_lines,
    check_budget,
    cost_lines,
    fitting,
    prices_of,
    row_costs,
    unit_of,
    within_budget,
)
from nos_repro.launch.device_timings import speed_key
from nos_repro.launch.dry_run import dry_run
from nos_repro.launch.probe import ProbeJob
from nos_repro.launch.settings import LauncherSettings
from tests.experiments.helpers import digits_study, write_record
from tests.launch.study import TINY
from tests.report.records import accuracy, filled_store

PRICE = Cost(step=2.0, evaluation=1.0, steps_per_epoch=4)
"""An epoch of a trial costs 9 seconds."""


def priced(study: Study, store: Store) -> list[RowCost]:
    planned = plan(study, store)
    return row_costs(planned, {model_key(entry.trial): PRICE for entry in planned}, store)


def test_a_row_costs_its_sweep_and_its_repeats(tmp_path: Path) -> None:
    study = digits_study(selection=Selection(repeats=3))
    rows = priced(study, Store(tmp_path, "tiny", "smoke"))
    assert [(row.row, row.trials, row.left) for row in rows] == [
        ("SGD", 5, 45.0),
        ("PowerSign", 5, 45.0),
    ]


def test_a_trial_that_two_rows_share_is_paid_once(tmp_path: Path) -> None:
    study = digits_study({"a": Row("sgd"), "b": Row("sgd")}, selection=Selection())
    rows = priced(study, Store(tmp_path, "tiny", "smoke"))
    assert [row.left for row in rows] == [18.0, 0.0]


def test_finished_trials_are_predicted_too_and_compared_with_the_actual_time(
    tmp_path: Path,
) -> None:
    study = digits_study(selection=Selection(repeats=1))
    store = filled_store(study, tmp_path, lambda t: None if t.seed else accuracy(50.0))
    rows = priced(study, store)
    assert [(r.ended, r.left, r.predicted, r.taken) for r in rows] == [(2, 9.0, 18.0, 72.0)] * 2
    (line,) = accuracy_lines(rows, Unit("CPU-hours", 100))
    assert "took 4.00 CPU-hours" in line
    assert "1.00 (actual / predicted: 4.00)" in line
    text = "\n".join(cost_lines(rows, Unit("CPU-hours", 100), budget=0.25))
    assert "0.50 CPU-hours to run" in text
    assert "fits 1 of 2 rows" in text


def test_a_budget_completes_as_many_rows_as_possible() -> None:
    costs = [50.0, 10.0, 30.0, 10.0, 25.0, 0.0]
    rows = [RowCost(str(n), 1, 0, cost, 0.0, 0.0) for n, cost in enumerate(costs)]
    for budget in (0.0, 9.0, 20.0, 45.0, 74.0, 125.0):
        chosen = fitting(rows, budget)
        assert sum(costs[int(name)] for name in chosen) <= budget
        most = max(
            len(some)
            for size in range(len(costs) + 1)
            for some in itertools.combinations(costs, size)
            if sum(some) <= budget
        )
        assert len(chosen) == most
        assert chosen == sorted(chosen)


def test_the_unit_is_core_hours_or_gpu_hours() -> None:
    assert unit_of(None, threads=2).hours(3600) in (2, 1)  # on a GPU machine, one GPU-hour
    slurm = LauncherSettings(name="slurm", gpus=4, nodes=2)
    assert unit_of(slurm, 1) == Unit("GPU-hours", 8)
    cores = LauncherSettings(name="slurm", gpus=0, cpus=3, nodes=2)
    assert unit_of(cores, 1).name == "CPU-hours"


@pytest.fixture
def no_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


GPUS = LauncherSettings(name="slurm", gpus=2)


def test_what_a_cpu_takes_is_never_called_gpu_hours(tmp_path: Path, no_gpu_here: None) -> None:
    study, store = digits_study(), Store(tmp_path, "tiny", "smoke")
    planned = plan(study, store)
    prices = prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1)
    assert not prices.fit
    assert prices.unit == Unit("CPU core-hours", 1)
    assert "GPU-hours are not known" in "".join(prices.lines())
    with pytest.raises(ConfigError, match=r"--budget: GPU-hours are not known.*--probe"):
        within_budget(study, store, planned, prices, 1.0)


def test_finished_trials_on_a_gpu_say_what_gpus_take(tmp_path: Path, no_gpu_here: None) -> None:
    """One of two trials has taken 30 s on a GPU: the other takes 15 s of two GPUs."""
    study = digits_study(selection=Selection())
    store = Store(tmp_path, "tiny", "smoke")
    first = plan(study, store)[0].trial
    device = {"device": "NVIDIA H100 80GB HBM3"}
    write_record(store.folder(first), first, seconds=30.0, provenance=device)
    store = Store(tmp_path, "tiny", "smoke")
    planned = plan(study, store)
    prices = prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1)
    assert prices.fit
    assert prices.unit == Unit("GPU-hours", 2)
    assert prices.lines() == ["  measured: finished trials of this study on NVIDIA H100 80GB HBM3"]
    per_trial = {row.row: row.left / row.trials for row in row_costs(planned, prices.costs, store)}
    assert per_trial["PowerSign"] == pytest.approx(15.0)
    cpu = {"device": "AMD EPYC (2 cores)"}
    write_record(store.folder(first), first, seconds=30.0, provenance=cpu)
    store = Store(tmp_path, "tiny", "smoke")
    assert not prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1).fit


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, 15.0),
        ({"processes": 2}, 30.0),  # each had a GPU
        ({"processes": 8}, 120.0),
        ({"device_settings": {"tf32": False}}, 15.0),
        ({"device_settings": {"tf32": True}}, None),
        ({"device_settings": {"resident": False}}, 15.0),
        ({"device_settings": {"compile": True}}, None),
    ],
)
def test_a_finished_trial_counts_by_its_gpus_and_its_device_s_settings(
    changes: dict[str, Any], left: float | None, tmp_path: Path, no_gpu_here: None
) -> None:
    """It has taken 30 s, and the next trial has two GPUs."""
    study = digits_study(selection=Selection())
    store = Store(tmp_path, "tiny", "smoke")
    first = plan(study, store)[0].trial
    held = study.device.on("cuda", make_settings(first.task, first.task_settings)).to_json()
    known = {"device_settings": {**held, **changes.pop("device_settings", {})}}
    provenance = {"device": "NVIDIA H200", **known, **changes}
    write_record(store.folder(first), first, seconds=30.0, provenance=provenance)
    store = Store(tmp_path, "tiny", "smoke")
    planned = plan(study, store)
    prices = prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1)
    assert prices.fit == (left is not None)
    if left is not None:
        rows = {row.row: row.left / row.trials for row in row_costs(planned, prices.costs, store)}
        assert rows["PowerSign"] == pytest.approx(left)


def test_several_gpus_share_what_was_timed_on_the_one_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = digits_study(), Store(tmp_path, "tiny", "smoke")
    planned = plan(study, store)
    one_gpu = {model_key(entry.trial): PRICE for entry in planned}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("nos_repro.launch.cost.measure_models", lambda *_: one_gpu)
    prices = prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1)
    assert prices.source == "a few timed steps on this machine's GPU, shared by 2 without loss"
    ours = [prices.unit.hours(row.left) for row in row_costs(planned, prices.costs, store)]
    assert ours == [row.left / 3600 for row in priced(study, store)]


def store_check(results: Path, study: Study, **changes: Any) -> None:
    """A hand-made check of a GPU, that has timed the model of the study's trials."""
    trial = plan(study, Store(results, "tiny", "smoke"))[0].trial
    settings = make_settings(trial.task, trial.task_settings)
    held = study.device.on("cuda", settings)
    timing = {
        "model": "tiny", "how": "as configured", "task": trial.task,
        "settings": dataclasses.asdict(held.of_task(settings)), "device_settings": held.to_json(),
        "step_seconds": 2.0, "evaluation_seconds": 1.0, "steps_per_epoch": 4,
    }  # fmt: skip
    found = {
        "kind": "device", "device": "NVIDIA H200", "accelerator": True, "timings": [timing],
        "date": "2026-11-29T01:00:00+00:00",
    }  # fmt: skip
    write_json(results / "device" / "one.json", {**found, **changes})


def test_a_check_of_a_gpu_gives_the_hours_of_gpus_that_are_not_here(
    tmp_path: Path, no_gpu_here: None, slurm_commands: None
) -> None:
    """An epoch is four steps of 2 s and evaluations of 1 s: 9 s on one GPU, as in PRICE."""
    study, store = digits_study(), Store(tmp_path, "tiny", "smoke")
    store_check(tmp_path, study)
    planned = plan(study, store)
    prices = prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1)
    assert prices.fit
    assert prices.unit == Unit("GPU-hours", 2)
    measured = "check-device on NVIDIA H200, 2026-11-29, shared by 2 without loss"
    assert prices.lines() == [f"  measured: {measured}"]
    ours = [prices.unit.hours(row.left) for row in row_costs(planned, prices.costs, store)]
    assert ours == [row.left / 3600 for row in priced(study, store)]
    text = dry_run(study, store, Conditions(tmp_path), None, 1, GPUS)
    assert f"measured: {measured}" in text
    assert "GPU-hours to run" in text


def test_finished_trials_say_more_than_a_check(tmp_path: Path, no_gpu_here: None) -> None:
    study = digits_study(selection=Selection())
    store_check(tmp_path, study)
    store = Store(tmp_path, "tiny", "smoke")
    first = plan(study, store)[0].trial
    device = {"device": "NVIDIA H200"}
    write_record(store.folder(first), first, seconds=30.0, provenance=device)
    store = Store(tmp_path, "tiny", "smoke")
    prices = prices_of(plan(study, store), store, Conditions(tmp_path), GPUS, threads=1)
    assert prices.source.startswith("finished trials of this study")


@pytest.mark.parametrize(
    "changes",
    [{"accelerator": False, "device": "AMD EPYC (2 cores)"}, {"timings": []}, {"timings": [{}]}],
)
def test_a_check_of_a_cpu_or_of_other_models_gives_none(
    changes: dict[str, Any], tmp_path: Path, no_gpu_here: None
) -> None:
    study, store = digits_study(), Store(tmp_path, "tiny", "smoke")
    store_check(tmp_path, study, **changes)
    planned = plan(study, store)
    assert not prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1).fit


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step_seconds", "2.0"), ("step_seconds", -1.0), ("step_seconds", 0),
        ("step_seconds", None), ("evaluation_seconds", [1]), ("evaluation_seconds", 1e300),
        ("steps_per_epoch", 0), ("steps_per_epoch", "4"), ("compilation_seconds", -5), ("task", 5),
    ],
)  # fmt: skip
def test_a_check_with_times_that_no_clock_has_measured_does_not_count(
    key: str, value: Any, tmp_path: Path, no_gpu_here: None
) -> None:
    study, store = digits_study(), Store(tmp_path, "tiny", "smoke")
    store_check(tmp_path, study)
    path = tmp_path / "device" / "one.json"
    found = json.loads(path.read_text())
    found["timings"][0][key] = value
    path.write_text(json.dumps(found))
    planned = plan(study, store)
    assert not prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1).fit


def test_a_check_of_a_foreign_results_folder_runs_no_module(
    tmp_path: Path, monkeypatch, no_gpu_here: None
) -> None:
    (tmp_path / "strange_task.py").write_text("raise SystemExit('this module was run')")
    monkeypatch.syspath_prepend(tmp_path)
    study, store = digits_study(), Store(tmp_path, "tiny", "smoke")
    store_check(tmp_path, study)
    path = tmp_path / "device" / "one.json"
    found = json.loads(path.read_text())
    found["timings"].append({**found["timings"][0], "task": "strange_task.Task"})
    path.write_text(json.dumps(found))
    planned = plan(study, store)
    assert not prices_of(planned, store, Conditions(tmp_path), GPUS, threads=1).fit
    assert "strange_task" not in sys.modules


def test_a_check_is_for_the_settings_that_it_was_timed_with() -> None:
    trial = plan(digits_study(), Store(Path("none"), "tiny", "smoke"))[0].trial
    plain = speed_key(trial, DeviceSettings())
    assert speed_key(trial.at(lr=0.5, seed=7), DeviceSettings(resident=False)) == plain
    assert speed_key(trial, DeviceSettings(tf32=True)) != plain
    assert speed_key(trial, DeviceSettings(compile=True)) != plain
    other = trial.at(task_settings={**trial.task_settings, "precision": "bf16"})
    assert speed_key(other, DeviceSettings()) != plain


def test_a_probe_with_other_settings_of_the_device_or_other_processes_is_another_job() -> None:
    trials = (plan(digits_study(), Store(Path("none"), "tiny", "smoke"))[0].trial,)

    def probe(processes: int = 1, **device: bool) -> str:
        conditions = Conditions(
            Path(), device_settings=DeviceSettings(**device), processes=processes
        )
        return ProbeJob(trials, Path(), conditions).identity

    assert probe() == probe()
    assert len({probe(), probe(processes=2), probe(tf32=True), probe(compile=True)}) == 4


def test_a_budget_must_be_positive_hours_and_a_race_allows_none() -> None:
    with pytest.raises(ConfigError, match="positive"):
        check_budget(digits_study(), float("nan"))
    race = digits_study(
        selection=Selection(), halving=Halving([1]),
        training=digits_study().training.__class__(epochs=2),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="halving"):
        check_budget(race, 1.0)


def test_a_budget_chooses_rows_and_shows_what_they_took(tmp_path: Path, capsys) -> None:
    config = tmp_path / "tiny.yaml"
    study = {**TINY, "training": {"epochs": 1}, "selection": {"repeats": 0}}
    study["rows"] = {"one": {"optimizer": "powersign"}, "two": {"optimizer": "sgd"}}
    OmegaConf.save(OmegaConf.create(study), config)
    words = ["run", str(config), "--scale", "smoke", "--results", str(tmp_path / "results")]
    assert main([*words, "--budget", "1e-9"]) == 2
    assert "no row fits; the cheapest takes" in capsys.readouterr().err
    assert main([*words, "--dry-run", "--budget", "1"]) == 0
    text = capsys.readouterr().out
    assert "fits 2 of 2 rows" in text
    assert not (tmp_path / "results").exists()
    assert main([*words, "--budget", "1", "--workers", "0"]) == 0
    printed = capsys.readouterr()
    assert "2 of 2 rows fit 1" in printed.err
    assert "finished trials took" in printed.out
