"""Lightning and Accelerate train with these optimizers as a plain loop does."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from nos_repro import AddSign, PowerSign, RuleOptimizer, make_schedule

STEPS = 6
MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "PowerSign": lambda p: PowerSign(p, 0.05, decay="ld", total_steps=STEPS),
    "AddSign": lambda p: AddSign(p, 0.05, weight_decay=0.01),
    "rule": lambda p: RuleOptimizer(p, "drop(adam, 0.3)", 0.05, seed=1),
}


def data() -> Tensor:
    return torch.randn(4 * STEPS, 3, generator=torch.Generator().manual_seed(0))


def layer(dtype: torch.dtype = torch.float32) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2).to(dtype)


def loss_of(model: torch.nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()  # type: ignore[no-any-return]


def by_hand(
    name: str, batch: int, dtype: torch.dtype = torch.float32, steps: int = STEPS
) -> Tensor:
    """The weights after one update per batch, at a scheduled rate."""
    model = layer(dtype)
    optimizer = MAKERS[name](model.parameters())
    schedule = make_schedule("cosine", optimizer, total_steps=STEPS)
    for part in data().to(dtype).split(batch)[:steps]:
        optimizer.zero_grad()
        loss_of(model, part).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.weight.detach()


class Line(pl.LightningModule):
    def __init__(self, name: str, *, automatic: bool = True) -> None:
        super().__init__()
        self.name, self.layer = name, layer()
        self.automatic_optimization = automatic

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        loss = loss_of(self.layer, batch)
        if not self.automatic_optimization:
            optimizer, schedule = self.optimizers(), self.lr_schedulers()
            optimizer.zero_grad()  # type: ignore[union-attr]
            self.manual_backward(loss)
            optimizer.step()  # type: ignore[union-attr]
            schedule.step()  # type: ignore[union-attr, call-arg]
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = MAKERS[self.name](self.parameters())
        schedule = make_schedule("cosine", optimizer, total_steps=STEPS)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def fitted(
    module: Line,
    batch: int,
    *,
    rows: Tensor | None = None,
    ckpt_path: str | None = None,
    **options: Any,
) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        **{"max_steps": STEPS, **options},
    )  # fmt: skip
    loader = DataLoader(data() if rows is None else rows, batch_size=batch)  # type: ignore[arg-type]
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("automatic", [True, False])
def test_lightning_takes_the_steps_of_a_plain_loop(name: str, automatic: bool) -> None:
    module = Line(name, automatic=automatic)
    fitted(module, 4)
    assert torch.equal(module.layer.weight, by_hand(name, 4))


@pytest.mark.parametrize("name", MAKERS)
def test_lightning_accumulates_gradients(name: str) -> None:
    module = Line(name)
    fitted(module, 2, accumulate_grad_batches=2)
    assert torch.allclose(module.layer.weight, by_hand(name, 4), atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_lightning_trains_in_pure_bfloat16(name: str) -> None:
    module = Line(name)
    fitted(module, 4, precision="bf16-true")
    assert module.layer.weight.dtype == torch.bfloat16
    assert torch.equal(module.layer.weight, by_hand(name, 4, torch.bfloat16))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_clips_gradients(name: str, precision: Any) -> None:
    trainer = fitted(Line(name), 4, precision=precision, gradient_clip_val=1e-3)
    assert trainer.global_step == STEPS


@pytest.mark.parametrize("name", MAKERS)
def test_lightning_resumes_from_its_own_checkpoint(name: str, tmp_path: Any) -> None:
    first, resumed, middle = Line(name), Line(name), tmp_path / "middle.ckpt"
    fitted(first, 4, rows=data()[:12], max_steps=3).save_checkpoint(middle)
    fitted(resumed, 4, rows=data()[12:], max_steps=4, ckpt_path=str(middle))
    assert torch.equal(resumed.layer.weight, by_hand(name, 4, steps=4))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate_takes_the_steps_of_a_plain_loop(name: str, precision: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(
        cpu=True, mixed_precision=precision, gradient_accumulation_steps=2
    )
    bare = layer()
    optimizer = MAKERS[name](bare.parameters())
    model, wrapped, schedule, loader = accelerator.prepare(
        bare,
        optimizer,
        make_schedule("cosine", optimizer, total_steps=STEPS),
        DataLoader(data(), batch_size=2),  # type: ignore[arg-type]
    )
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(loss_of(model, batch))
            wrapped.step()
            schedule.step()
            wrapped.zero_grad()
    tolerance = 1e-6 if precision == "no" else 0.05
    assert torch.allclose(bare.weight, by_hand(name, 4), atol=tolerance)
    again = copy.deepcopy(optimizer)
    again.load_state_dict(wrapped.state_dict())
