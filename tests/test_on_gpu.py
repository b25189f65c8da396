"""What only a GPU can show; skipped, with the reason, where there is none: `pytest -m gpu`."""

import io
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nos_repro.bench.device_counts import MODELS
from nos_repro.data.batches import cut, draw_crops, sent
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.record import Record
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.training import Run
from nos_repro.experiments.trial import Training, Trial
from nos_repro.optim.factory import make_optimizer
from tests.conftest import ROOT

pytestmark = pytest.mark.gpu

GPU = "cuda"
# fmt: off
RULES = (
    "powersign", "powersign-cd", "addsign-ld", "rmsprop-tf", "rule: m * exp(v)",
    "rule: (1 + sign(g) * sign(m)) * adam", "rule: drop(g, 0.3) * exp(sign(g) * sign(m))",
    "rule: m * (1 + noise) * sigmoid(1e-4 * w)", "rule: clip(rmsprop, 1e-5) + drop(m, 0.3)",
)
# fmt: on
STILL = DeviceSettings(cudnn_benchmark=False)
"""Two runs take the same algorithms."""


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    """Whatever would make the host wait for the GPU raises."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def after(rule: str, device: str, dtype: torch.dtype, **options: object) -> list[Tensor]:
    """The parameters after three updates, on the CPU."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(256, 130), (64, 32, 3, 3), (33, 7), (5,)]

    def drawn(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=draw).to(device, dtype)

    params = [torch.nn.Parameter(drawn(shape)) for shape in shapes]
    optimizer = make_optimizer(rule, params, lr=0.01, total_steps=3, seed=1, **options)
    for _ in range(3):
        for param in params:
            param.grad = drawn(tuple(param.shape))
        optimizer.step()
    return [param.detach().cpu() for param in params]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES)
def test_an_optimizer_on_a_gpu_does_what_it_does_on_the_cpu(rule: str, dtype: torch.dtype) -> None:
    torch.testing.assert_close(after(rule, GPU, dtype), after(rule, "cpu", dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "rmsprop-tf"])
def test_the_fused_kernel_does_what_the_plain_loop_does(rule: str, dtype: torch.dtype) -> None:
    fused, plain = ({"fused": True}, {"fused": False, "foreach": False})
    torch.testing.assert_close(after(rule, GPU, dtype, **fused), after(rule, GPU, dtype, **plain))


def trial(model: str, **changes: Any) -> Trial:
    task, settings = MODELS[model]
    return Trial(task, settings, changes.pop("optimizer", "sgd"), **{"lr": 1e-3, **changes})


def run_of(asked: Trial, folder: Path, device: str = GPU) -> Run:
    run = build(asked, Conditions(folder, device=device, device_settings=STILL))
    run.task.train()
    return run


def steps(run: Run, count: int) -> None:
    for batch in itertools.islice(run.data.train_batches(0, run.batch), count):
        run.train_step(run.to_device(batch))


def values(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten().double().cpu() for p in run.task.parameters()])


@pytest.mark.parametrize("model", MODELS)
def test_a_step_waits_for_nothing(model: str, tmp_path: Path, waiting_is_an_error: None) -> None:
    run = run_of(trial(model, training=Training(gradient_norm=5.0)), tmp_path)
    batches = run.data.train_batches(0)
    run.train_step(run.to_device(next(batches)))
    torch.cuda.set_sync_debug_mode("error")
    run.train_step(run.to_device(next(batches)))


@pytest.mark.parametrize("optimizer", RULES)
def test_an_update_in_training_waits_for_nothing(
    optimizer: str, tmp_path: Path, waiting_is_an_error: None
) -> None:
    run = run_of(trial("convnet", optimizer=optimizer), tmp_path)
    steps(run, 2)
    batch = run.to_device(next(run.data.train_batches(0, run.batch)))
    torch.cuda.set_sync_debug_mode("error")
    run.train_step(batch)


# dropout draws other numbers on a GPU
@pytest.mark.parametrize("model", ["convnet", "mlp", "wide_resnet", "rosenbrock"])
def test_a_task_trains_as_on_the_cpu(model: str, tmp_path: Path) -> None:
    ends = []
    for device in (GPU, "cpu"):
        run = run_of(trial(model), tmp_path, device)
        steps(run, 5)
        assert run.bad_step() is None
        ends.append((values(run), run.loss_total))
    torch.testing.assert_close(ends[0][0], ends[1][0], rtol=1e-3, atol=1e-5)
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_every_task_takes_finite_steps_and_is_evaluated(model: str, tmp_path: Path) -> None:
    run = run_of(trial(model), tmp_path)
    steps(run, 3)
    assert run.bad_step() is None
    measured = run.evaluate(itertools.islice(run.data.val_batches(), 2), "val")
    assert measured["val_loss"] > 0


def test_the_gradients_of_lstms_in_bfloat16_are_those_of_float32(tmp_path: Path) -> None:
    task, settings = MODELS["gnmt"]
    gradients = []
    for precision in ("32", "bf16"):
        own = {**settings, "precision": precision, "dropout": 0.0}
        run = run_of(Trial(task, own, "sgd", 1e-3), tmp_path)
        run.task.training_step(run.to_device(next(run.data.train_batches(0)))).backward()
        named = run.task.named_parameters()
        gradients.append(
            {n: p.grad.double() for n, p in named if "weight_" in n and p.grad is not None}
        )
    for name, exact in gradients[0].items():
        ours = gradients[1][name]
        assert (ours * exact).sum() / (ours.norm() * exact.norm()) > 0.98, name


@pytest.mark.parametrize("model", ["convnet", "nasnet", "ptb_lstm"])
@pytest.mark.parametrize("optimizer", ["powersign", "rule: drop(m, 0.3) * exp(1e-3 * w)"])
def test_a_resumed_run_is_the_run_that_never_stopped(
    model: str, optimizer: str, tmp_path: Path
) -> None:
    """Up to the order of sums: cuDNN's and atomic additions have none."""
    asked = trial(model, optimizer=optimizer)
    whole = run_of(asked, tmp_path)
    steps(whole, 4)
    first = run_of(asked, tmp_path)
    steps(first, 2)
    first.bad_step()
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    resumed = run_of(asked, tmp_path)
    resumed.restore(torch.load(file, map_location="cpu", weights_only=True))
    steps(resumed, 2)
    torch.testing.assert_close(values(resumed), values(whole), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_two_gpus_end_with_the_same_loss_sharded_as_with_two_copies(
    precision: str, tmp_path: Path
) -> None:
    task, settings = MODELS["gnmt"]
    own = {**settings, "precision": precision, "dropout": 0.0, "bleu_every": 0}
    made = {"task": task, "task_settings": own, "optimizer": "powersign", "lr": 0.01}
    plan = [
        {"name": "whole", "trial": made, "on": GPU},
        {"name": "parts", "trial": made, "on": GPU, "shard": True},
    ]
    cases = {"pair": {"world": 2, "trouble": "", "plan": plan}}
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    (tmp_path / "pair").mkdir()
    command = [sys.executable, "-m", "tests.experiments.replicated", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, timeout=300, check=True)
    curves = []
    for name in ("whole", "parts"):
        path = tmp_path / "pair" / name / "record.json"
        record = Record.read(path.read_bytes(), str(path))
        assert record.status == "finished", record.traceback
        curves.append([line["val_loss"] for line in record.metrics])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_pictures_cut_on_a_gpu_are_equal_to_the_bit() -> None:
    images = torch.randint(0, 256, (50, 32, 32, 3), dtype=torch.uint8)
    chosen, crops = torch.randperm(50)[:20], draw_crops(20, 1, 2, 3)
    there, moved = sent(chosen, crops, torch.device(GPU))
    assert moved is not None
    assert torch.equal(cut(images.to(GPU), there, moved).cpu(), cut(images, chosen, crops))


def test_a_resident_set_s_batches_come_from_the_gpu(tmp_path: Path) -> None:
    run = run_of(trial("convnet"), tmp_path)
    usual = run_of(trial("convnet"), tmp_path, "cpu")
    ours, theirs = (next(r.data.train_batches(0)) for r in (run, usual))
    assert all(x.is_cuda for x in tree_leaves(ours))
    torch.testing.assert_close([x.cpu() for x in tree_leaves(ours)], tree_leaves(theirs))


def test_a_whole_trial_records_what_was_in_effect(tmp_path: Path) -> None:
    asked = Trial("convnet", {"data": "digits", "train_images": 200}, "powersign", 0.01)
    assert run_trial(asked, tmp_path / "t", Conditions(tmp_path))[0] == "recorded"
    path = tmp_path / "t" / "record.json"
    record = Record.read(path.read_bytes(), str(path))
    assert record.status == "finished"
    assert record.provenance["device"] == torch.cuda.get_device_name()
    effect = record.provenance["device_settings"]
    assert (effect["tf32"], effect["cudnn_benchmark"], effect["resident"]) == (False, True, True)


@pytest.mark.parametrize("rule", [*RULES, "adam", "rmsprop", "adam-tf"])
@pytest.mark.parametrize("fused", [None, True])
def test_a_whole_training_step_is_one_cuda_graph(rule: str, fused: bool | None) -> None:
    """Replayed, forward and backward passes, update and decays go on as they do without it."""
    own = rule.startswith(("powersign", "addsign", "rule: "))
    if fused and not own:
        pytest.skip("has one execution of ours")
    options: dict[str, Any] = {"fused": fused} if fused else {}
    options |= {"total_steps": 9, "seed": 1} if own else {}

    def trained(*, graph: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(64, 48), torch.nn.Tanh(), torch.nn.Linear(48, 8)
        )
        model.to(GPU)
        x = torch.randn(32, 64, device=GPU)
        optimizer = make_optimizer(rule, model.parameters(), lr=0.01, capturable=True, **options)

        def step() -> None:
            optimizer.zero_grad(set_to_none=False)
            model(x).square().mean().backward()
            optimizer.step()

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        whole = torch.cuda.CUDAGraph()
        if graph:
            with torch.cuda.graph(whole):
                step()
        for _ in range(4):
            whole.replay() if graph else step()
        return [p.detach().cpu() for p in model.parameters()]

    for replayed, stepped in zip(trained(graph=True), trained(graph=False), strict=True):
        torch.testing.assert_close(replayed, stepped)
