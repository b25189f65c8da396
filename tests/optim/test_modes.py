"""Optimizers that evaluate other weights than they train: an evaluation leaves no trace."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.swa_utils import update_bn

from nos_repro import make_optimizer
from nos_repro.optim.modes import NORM_BATCHES, Modes


class Averages(SGD):
    """Evaluates the mean of all iterates so far, and goes back by arithmetic, which rounds."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr)
        self.log: list[str] = []
        self.count = 0

    def params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        assert self.log[-1] == "train"
        super().step()
        self.count += 1
        for p in self.params():
            mean = self.state[p].setdefault("mean", torch.zeros_like(p))
            mean += (p - mean) / self.count

    @torch.no_grad()
    def eval(self) -> None:
        self.log.append("eval")
        for p in self.params():
            p.lerp_(self.state[p]["mean"], 0.7)

    @torch.no_grad()
    def train(self) -> None:
        self.log.append("train")
        for p in self.params() if self.count else []:
            p.lerp_(self.state[p]["mean"], -0.7 / 0.3)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3))


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    for seed in range(NORM_BATCHES):
        random = torch.Generator().manual_seed(seed)
        yield torch.randn(8, 6, generator=random), torch.randint(3, (8,), generator=random)


def trained(optimizer: str, *, looks: bool) -> tuple[nn.Module, Any]:
    """A model after 20 updates; with ``looks`` it is evaluated after each of them."""
    model = net()
    made = make_optimizer(optimizer, model.parameters(), lr=0.05)
    modes = Modes(made)
    for x, y in list(batches())[:20]:
        made.zero_grad()
        F.cross_entropy(model(x), y).backward()
        made.step()
        if looks:
            with modes.evaluating(model, batches, lambda batch: model(batch[0])):
                model.eval()
                model(x)
                model.train()
    return model, modes


@pytest.mark.parametrize(
    "name", [f"{__name__}.Averages", "schedulefree.AdamWScheduleFree", "pytorch_optimizer.SPlus"]
)
def test_an_evaluation_after_every_update_changes_nothing(name: str) -> None:
    pytest.importorskip(name.partition(".")[0])
    (one, _), (other, _) = (trained(name, looks=looks) for looks in (False, True))
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_what_is_evaluated_is_what_the_optimizer_says() -> None:
    model, modes = trained(f"{__name__}.Averages", looks=False)
    p = next(model.parameters())
    expected = p.detach().lerp(modes.optimizer.state[p]["mean"], 0.7)
    with modes.evaluating(), modes.evaluating():
        assert torch.equal(p, expected)
    assert modes.optimizer.log == ["train", "eval", "train"]


def test_schedule_free_evaluates_its_average() -> None:
    """x of the paper: y = (1 - beta) z + beta x."""
    pytest.importorskip("schedulefree")
    model, modes = trained("schedulefree.AdamWScheduleFree", looks=False)
    p = next(model.parameters())
    y, z = p.detach().clone(), modes.optimizer.state[p]["z"]
    with modes.evaluating():
        torch.testing.assert_close(p.detach(), (y - 0.1 * z) / 0.9)
    assert torch.equal(p, y)


def test_batch_norm_is_counted_for_the_weights_that_are_evaluated() -> None:
    """Against torch's own `update_bn`."""
    model, modes = trained(f"{__name__}.Averages", looks=False)
    norm: Any = model[1]  # type: ignore[index]
    before = norm.running_mean.clone()
    with modes.evaluating(model, batches, lambda batch: model(batch[0])):
        counted = norm.running_mean.clone(), norm.running_var.clone()
        update_bn([x for x, _ in batches()], model)
        torch.testing.assert_close(counted, (norm.running_mean, norm.running_var))
        assert norm.momentum == 0.1
    assert torch.equal(norm.running_mean, before)
    assert not torch.allclose(counted[0], before)


def test_an_optimizer_without_modes_is_left_alone() -> None:
    model, modes = trained("adam", looks=True)
    assert modes.optimizer is None
    plain, _ = trained("adam", looks=False)
    assert all(map(torch.equal, model.parameters(), plain.parameters()))
