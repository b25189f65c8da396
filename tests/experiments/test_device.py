"""The section `device`: what holds on which device; it is recorded, and not part of an identity."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.device import DeviceSettings, InEffect
from nos_repro.experiments.estimate import Cost
from nos_repro.experiments.load import load_study
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.trial import Training, Trial
from nos_repro.tasks.facts.convnet import ConvNetSettings
from nos_repro.tasks.facts.ptb_lstm import PtbLstmSettings

PLAIN, BF16 = ConvNetSettings(data="digits"), ConvNetSettings(data="digits", precision="bf16")
LAST = ConvNetSettings(data="digits", channels_last=True)
TRIAL = Trial("convnet", {"data": "digits", "train_images": 100}, "sgd", 0.1)

# fmt: off
T, F = True, False
EFFECTS = [
    # asked for                          device  the task's  precision tf32 last bench resident
    (DeviceSettings(),                   "cpu",  PLAIN, InEffect("32",   F, F, F, F)),
    (DeviceSettings(),                   "cpu",  LAST,  InEffect("32",   F, T, F, F)),
    (DeviceSettings(),                   "cpu",  BF16,  InEffect("bf16", F, F, F, F)),
    (DeviceSettings(tf32=True),          "cpu",  PLAIN, InEffect("32",   F, F, F, F)),
    (DeviceSettings(),                   "cuda", PLAIN, InEffect("32",   F, F, T, T)),
    (DeviceSettings(),                   "cuda", BF16,  InEffect("bf16", F, T, T, T)),
    (DeviceSettings(tf32=True),          "cuda", PLAIN, InEffect("32",   T, T, T, T)),
    (DeviceSettings(channels_last=False), "cuda", BF16, InEffect("bf16", F, F, T, T)),
    (DeviceSettings(channels_last=True), "cpu",  PLAIN, InEffect("32",   F, T, F, F)),
    (DeviceSettings(F, F, F, F),         "cuda", LAST,  InEffect("32",   F, F, F, F)),
    (DeviceSettings(resident=True),      "cpu",  PLAIN, InEffect("32",   F, F, F, T)),
]
# fmt: on


@pytest.mark.parametrize(("asked", "device", "settings", "expected"), EFFECTS)
def test_defaults_follow_from_the_device_and_the_precision(
    asked: DeviceSettings, device: str, settings: ConvNetSettings, expected: InEffect
) -> None:
    assert asked.on(device, settings) == expected
    assert asked.on(device, settings).of_task(settings).channels_last == expected.channels_last


def test_a_task_without_images_keeps_its_settings() -> None:
    settings = PtbLstmSettings(data="pydoc")
    in_effect = DeviceSettings(channels_last=True).on("cuda", settings)
    assert in_effect.channels_last is None
    assert in_effect.of_task(settings) is settings


def test_a_layout_that_the_task_cannot_have_is_refused_by_the_section_s_name() -> None:
    settings = ConvNetSettings(data="digits", channels_last=True, fused=True)
    in_effect = DeviceSettings(channels_last=False).on("cpu", settings)
    with pytest.raises(ConfigError, match="fused must be false"):
        in_effect.of_task(settings)


@pytest.fixture
def switches() -> Iterator[None]:
    """Torch's switches for CUDA, which can be set where there is none, are put back afterwards."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_on_everywhere_or_nowhere_on_cuda(tf32: bool, switches: None) -> None:
    assert torch.backends.cudnn.allow_tf32  # torch's default: on, and not said
    DeviceSettings(tf32=tf32).on("cuda", PLAIN).prepare("cuda")
    assert torch.backends.cudnn.allow_tf32 is tf32
    assert torch.backends.cuda.matmul.allow_tf32 is tf32
    assert torch.backends.cudnn.conv.fp32_precision == ("tf32" if tf32 else "none")
    assert torch.backends.cudnn.benchmark


def test_on_a_cpu_nothing_is_switched(switches: None) -> None:
    DeviceSettings(tf32=True).on("cpu", PLAIN).prepare("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.benchmark


def test_a_record_says_what_was_in_effect_and_its_identity_does_not(tmp_path: Path) -> None:
    curves = []
    for name, asked in (
        ("usual", DeviceSettings()),
        ("changed", DeviceSettings(channels_last=True, resident=True)),
    ):
        conditions = Conditions(tmp_path, device="cpu", device_settings=asked)
        run_trial(TRIAL, tmp_path / name, conditions)
        record = json.loads((tmp_path / name / "record.json").read_text())
        assert record["id"] == TRIAL.id
        settings = dataclasses.asdict(asked.on("cpu", PLAIN))
        assert record["provenance"]["device_settings"] == settings
        curves.append(record["metrics"])
    assert curves[0][0]["val_loss"] == pytest.approx(curves[1][0]["val_loss"], rel=1e-3)


@pytest.mark.slow
def test_a_compiled_model_trains_as_the_plain_one_does(tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    trial = dataclasses.replace(
        TRIAL, task="mlp", task_settings={"data": "digits", "train_images": 320, "batch_size": 32}
    )
    ends = []
    for compiled in (False, True):
        asked = DeviceSettings(compile=compiled)
        conditions = Conditions(tmp_path, device="cpu", device_settings=asked)
        before = counters["stats"]["unique_graphs"]
        run_trial(trial, tmp_path / str(compiled), conditions)
        assert (counters["stats"]["unique_graphs"] > before) == compiled
        record = json.loads((tmp_path / str(compiled) / "record.json").read_text())
        assert record["provenance"]["device_settings"]["compile"] == compiled
        ends.append(record["metrics"][-1]["val_loss"])
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


def test_the_time_of_compiling_counts_once() -> None:
    training = Training(epochs=3, evaluate_every=1)
    cost = Cost(step=0.5, evaluation=2.0, steps_per_epoch=4, compilation=60.0)
    assert cost.of(training, 0, 3) == 60 + 3 * 4 * 0.5 + 3 * 2


def test_a_study_s_section_is_read_checked_and_overridden(tmp_path: Path) -> None:
    text = (
        "study: own\ntask: {name: convnet, data: digits}\nsweep: {lr: [0.1]}\n"
        "rows: {SGD: {optimizer: sgd}}\ndevice: {tf32: true}\n"
    )
    path = tmp_path / "own.yaml"
    path.write_text(text)
    assert load_study(path, scale="default").device == DeviceSettings(tf32=True)
    changed = load_study(path, scale="default", overrides=["device.resident=false"])
    assert changed.device == DeviceSettings(tf32=True, resident=False)
    path.write_text(text.replace("tf32", "tf23"))
    with pytest.raises(ConfigError, match="tf32"):
        load_study(path, scale="default")
