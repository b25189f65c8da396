"""What only a GPU can show; skipped, with the reason, where there is none."""

import pytest
import torch
from torch import Tensor

from nos_repro.optim.factory import make_optimizer

pytestmark = pytest.mark.gpu

RULES = ("powersign", "addsign-ld", "rmsprop-tf", "rule: drop(g, 0.3) * exp(sign(g) * sign(m))")


def after(rule: str, device: str, **options: object) -> list[Tensor]:
    """Three updates of two tensors, on the CPU afterwards."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(33, 7), (5,)]
    params = [torch.nn.Parameter(torch.randn(s, generator=draw).to(device)) for s in shapes]
    optimizer = make_optimizer(rule, params, lr=0.01, total_steps=3, **options)
    for _ in range(3):
        for param in params:
            param.grad = torch.randn(param.shape, generator=draw).to(device)
        optimizer.step()
    return [param.detach().cpu() for param in params]


@pytest.mark.parametrize("rule", RULES)
def test_an_optimizer_on_a_gpu_does_what_it_does_on_the_cpu(rule: str) -> None:
    torch.testing.assert_close(after(rule, "cuda"), after(rule, "cpu"))
