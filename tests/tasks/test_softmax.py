"""The softmax in pieces against cross entropy in one."""

import math

import pytest
import torch
from torch import Tensor

from nos_repro.tasks import softmax

WORDS, FEATURES = 50, 8


def example(rows: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(rows)
    features = scale * torch.randn(rows, FEATURES, dtype=torch.float64)
    weight = torch.randn(WORDS, FEATURES, dtype=torch.float64)
    bias = torch.randn(WORDS, dtype=torch.float64)
    leaves = [value.requires_grad_() for value in (features, weight, bias)]
    return *leaves, torch.randint(0, WORDS, (rows,))


@pytest.mark.parametrize("rows", [1, softmax.ROWS, 3 * softmax.ROWS + 7])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_loss_and_gradients_are_those_of_the_whole(rows: int, scale: float) -> None:
    values = example(rows, scale)
    losses = [function(*values) / 64 for function in (softmax.cross_entropy, softmax.plain)]
    torch.testing.assert_close(*losses)
    for a, b in zip(*(torch.autograd.grad(loss, values[:3]) for loss in losses), strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(softmax.cross_entropy(*values) / 64, losses[1].detach())


def test_equal_logits_cost_the_logarithm_of_the_number_of_words() -> None:
    _, weight, bias, targets = example(10)
    loss = softmax.cross_entropy(torch.zeros(10, FEATURES).double(), weight, 0 * bias, targets)
    assert loss.item() / 10 == pytest.approx(math.log(WORDS))


def test_an_overflow_is_a_value() -> None:
    features, weight, bias, targets = example(10)
    assert softmax.cross_entropy(features * torch.inf, weight, bias, targets).isnan()
