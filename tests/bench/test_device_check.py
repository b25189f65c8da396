"""`check-device` on a CPU, with tiny models: each section against something outside it."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from nos_repro.bench.device_check import SECTIONS, check_device, executions, sections, steps
from nos_repro.bench.device_check.executions import difference, weights_after
from nos_repro.bench.device_check.frame import Checking, CheckRow
from nos_repro.bench.device_check.hours import table_hours
from nos_repro.bench.device_check.models import (
    AS_IT_IS,
    MODELS,
    CheckedModel,
    run_of,
    steps_of,
    synthetic,
    trial_of,
)
from nos_repro.bench.device_check.sections import Section
from nos_repro.cli import main
from nos_repro.experiments.build import Conditions, build_task
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import find_config
from nos_repro.experiments.training import Run
from nos_repro.experiments.trial import make_settings
from nos_repro.launch.device_timings import Timing
from tests.report.test_documents import printed


def rows_of(name: str, **given: Any) -> list[CheckRow]:
    check = Checking("cpu", quick=True, **{"deadline": float("inf"), **given})
    return list(SECTIONS[name].find(check))


def test_the_weights_that_are_compared_are_those_of_torch_s_own_optimizer() -> None:
    ours, _ = weights_after("rule: g", torch.float32, "cpu", foreach=False, fused=False)
    theirs, _ = weights_after("torch.optim.SGD", torch.float32, "cpu")
    assert difference(ours, theirs) < 1e-6


def test_a_difference_is_relative_and_infinite_for_what_is_no_number() -> None:
    def tensors(*values: float) -> list[torch.Tensor]:
        return [torch.tensor([value], dtype=torch.float64) for value in values]

    assert difference(tensors(1.0, 3.0), tensors(1.0, 4.0)) == 0.2
    assert difference(tensors(1.0, float("nan")), tensors(2.0, 1.0)) == float("inf")


@pytest.mark.parametrize("rule", executions.RULES)
def test_a_rule_that_is_compared_has_finite_weights_and_they_agree(rule: str) -> None:
    """An infinite weight would be far from any other, and say nothing of the executions."""
    for dtype in executions.TOLERANCE:
        loop, _ = weights_after(rule, dtype, "cpu", foreach=False, fused=False)
        foreach, _ = weights_after(rule, dtype, "cpu", foreach=True, fused=False)
        assert difference(foreach, loop) == 0


def test_an_execution_that_computes_something_else_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(rule: str, dtype: torch.dtype, device: str, **how: Any) -> Any:
        fused = how["fused"]
        how = {"fused": False, "foreach": not fused and how["foreach"]}
        weights, seconds = weights_after(rule, dtype, device, **how)
        weights[0][0] += 0.1 * fused
        return weights, seconds

    monkeypatch.setattr(executions, "weights_after", wrong)
    rows = rows_of("executions")
    assert [row.holds for row in rows] == [False, False]
    assert all(row.values["foreach - loop"] == 0 for row in rows)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_synthetic_batch_is_like_a_real_one(model: CheckedModel, tmp_path: Path) -> None:
    """The same parts of the same types and dimensions as embedded data give."""
    study = load_study(find_config(model.config), scale="smoke", rows=[model.row], trying=False)
    trial = trial_of(study)
    _, data = build_task(trial, Conditions(tmp_path))
    settings = make_settings(trial.task, trial.task_settings)
    made = synthetic(model, settings).batch
    real = next(data.train_batches(0))
    assert type(made) is type(real)
    pairs = list(zip(tree_leaves(made), tree_leaves(real), strict=True))
    assert [(x.dtype, x.ndim) for x, _ in pairs] == [(y.dtype, y.ndim) for _, y in pairs]


def test_the_steps_of_an_epoch_are_the_papers() -> None:
    """45,000 images by 100 and by 128; sec. 6.5: 150,000 steps in 100 epochs; the rest as table3
    says."""
    steps = {}
    for model in MODELS:
        trial = trial_of(model.study(AS_IT_IS, tiny=False))
        steps[model.name] = steps_of(model, make_settings(trial.task, trial.task_settings))
    assert steps == {"small ConvNet": 450, "WRN-40-4": 351, "PTB LSTM": 1500, "GNMT": 35_343,
                     "NASNet-A mobile": 1000}  # fmt: skip


def test_waits_are_unknown_where_torch_does_not_tell_of_a_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a CPU no call tells of one: a count of 0 would be a lie."""
    monkeypatch.setattr("torch.cuda.set_sync_debug_mode", lambda mode: None)
    study = MODELS[1].study(AS_IT_IS, tiny=True)
    trial = trial_of(study)
    data = synthetic(MODELS[1], make_settings(trial.task, trial.task_settings))
    assert steps.waits_of(run_of(study, data, "cpu")) is None


def test_a_run_that_resumes_somewhere_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row.holds for row in rows_of("resuming")] == [True, True]
    restore = Run.restore

    def lossy(run: Run, state: dict[str, Any]) -> None:
        restore(run, {**state, "batch": state["batch"] - 1})

    monkeypatch.setattr(Run, "restore", lossy)
    assert [row.holds for row in rows_of("resuming")] == [False, False]


def timing_of(model: CheckedModel, how: str, seconds: float) -> Timing:
    """A made-up one of a GPU."""
    study = model.study(how, tiny=False)
    trial = trial_of(study)
    settings = make_settings(trial.task, trial.task_settings)
    held = study.device.on("cuda", settings)
    return Timing(
        model.name, how, trial.task, dataclasses.asdict(held.of_task(settings)), held.to_json(),
        seconds, 5.0, steps_of(model, settings),
    )  # fmt: skip


def test_the_hours_of_a_table_are_its_trials_times_their_epochs() -> None:
    """Table 6: 32 rows at seven rates, 300 epochs of 351 steps."""
    wrn = MODELS[1]
    timings = [timing_of(wrn, AS_IT_IS, 0.1), timing_of(wrn, "bf16", 0.04)]
    rows = {row.what: row.values for row in table_hours(timings)}
    assert list(rows) == ["Table 1", "Table 2", "Table 6"]
    epochs = 32 * 7 * 300 / 3600
    found = rows["Table 6"]
    assert found["GPU-hours, as configured"] == pytest.approx(epochs * (351 * 0.1 + 5))
    assert found["GPU-hours, by the fastest"] == pytest.approx(epochs * (351 * 0.04 + 5))
    assert (found["trials"], found["fastest setting"]) == (224, "bf16")


def test_a_section_that_breaks_keeps_its_rows_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(check: Checking) -> Iterator[CheckRow]:
        yield CheckRow("first", {"s": 1.0}, True)
        raise RuntimeError("CUDA error: misaligned address\nCompile with ...")

    def goes_on(check: Checking) -> Iterator[CheckRow]:
        yield CheckRow("second", {})

    made = {"a": Section(breaks, 0.5, "a"), "b": Section(goes_on, 0.5, "b")}
    monkeypatch.setattr(sections, "SECTIONS", made)
    told: list[str] = []
    found = check_device("cpu", tell=lambda section: told.append(section["name"]))
    assert told == ["a", "b"]
    first, second = found["sections"]
    assert first["broke"] == "RuntimeError: CUDA error: misaligned address"
    assert [row["what"] for row in first["rows"]] == ["first"]
    assert (second["broke"], second["holds"], found["holds"]) == ("", True, False)


def test_a_model_that_breaks_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(check: Checking, model: CheckedModel, how: str) -> Any:
        if model.name == "GNMT":
            raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")
        if model.name == "PTB LSTM":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return timing_of(model, how, 0.1), {"ms per step": 100.0, "waits per step": 0}

    monkeypatch.setattr(steps, "timed", timed)
    check = Checking("cpu", quick=True, deadline=float("inf"))
    held = {row.what.partition(",")[0]: row.holds for row in SECTIONS["steps"].find(check)}
    assert held == {"small ConvNet": True, "WRN-40-4": True, "GNMT": False, "NASNet-A mobile": True}
    assert check.notes[0] == "PTB LSTM, as configured: OutOfMemoryError: CUDA out of memory"
    assert len(check.timings) == 6


def test_what_there_is_no_time_for_is_left_out_and_said() -> None:
    check = Checking("cpu", quick=True, deadline=0.0)
    assert list(check.within("abc")) == ["a"]
    assert check.notes == ["2 of 3 left out for lack of time: --minutes gives more"]


def test_it_prints_a_document_and_makes_its_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("check-device", "--device", "cpu", "--quick", "--only", "resuming", "--only", "hours")
    html = tmp_path / "page.html"
    found = printed(capsys, *words, "--html", str(html), "--results", str(tmp_path))
    assert [section["name"] for section in found["sections"]] == ["resuming", "hours"]
    assert found["sections"][1]["notes"] == ["a CPU's hours say nothing of a GPU's: none are given"]
    assert found["holds"]
    assert not found["accelerator"]
    text = html.read_text("utf-8")
    assert "A run goes on from its checkpoint" in text
    assert not list(tmp_path.glob("device/*")), "a part of a check is not stored"


def test_a_whole_check_is_stored_and_its_status_says_what_does_not_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def wrong(check: Checking) -> Iterator[CheckRow]:
        yield CheckRow("PowerSign", {"difference": 1.0}, False)

    monkeypatch.setattr(sections, "SECTIONS", {"executions": Section(wrong, 1.0, "They agree")})
    assert main(["check-device", "--device", "cpu", "--results", str(tmp_path)]) == 1
    assert "executions: PowerSign does not hold" in capsys.readouterr().out
    (path,) = tmp_path.glob("device/*.json")
    assert json.loads(path.read_text("utf-8"))["kind"] == "device"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "step"], "did you mean 'steps'"),
        (["--minutes", "0"], "--minutes must be a positive number"),
        (["--minutes", "1e9"], "--minutes must be a positive number below 10,000, got 1e+09"),
    ],
)
def test_a_wrong_word_is_one_error(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-device", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_one_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["check-device", "--device", "cuda"]) == 2
    assert "PyTorch sees no GPU here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_quick_check_of_a_cpu_finds_that_all_holds(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--device", "cpu", "--quick", "--minutes", "60")
    found = printed(capsys, "check-device", *words)
    rows = {section["name"]: section["rows"] for section in found["sections"]}
    assert found["holds"]
    assert [len(rows[name]) for name in SECTIONS] == [2, 3, 2 * len(MODELS), 2, 0]
    assert rows["updates"][0]["values"]["over Adam"] == 1
    assert len(found["timings"]) == 2 * len(MODELS)


@pytest.mark.gpu
def test_a_quick_check_of_a_gpu_finds_that_all_holds(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "check-device", "--device", "cuda", "--quick", "--minutes", "60")
    assert found["holds"], found["sections"]
