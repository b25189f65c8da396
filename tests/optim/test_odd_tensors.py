"""Parameters that have no memory, or whose memory does not hold their values."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Parameter

from nos_repro import PowerSign, RuleOptimizer
from nos_repro.errors import ConfigError

LARGE = 2000, 1000  # elements, for which a kernel would be compiled
Maker = Callable[..., RuleOptimizer]


def random_rule(params: Any, **options: Any) -> RuleOptimizer:
    return RuleOptimizer(params, "adam + drop(g, 0.3)", 0.1, seed=1, **options)


@pytest.fixture(params=[PowerSign, random_rule])
def make(request: pytest.FixtureRequest) -> Maker:
    maker: Maker = request.param
    return maker


def test_on_the_meta_device_no_kernel_is_missed(make: Maker) -> None:
    """On which people try a training loop at full size; a warning would be an error here."""
    p = Parameter(torch.empty(LARGE, device="meta"))
    p.grad = torch.empty_like(p)
    make([p]).step()


def test_a_fake_tensor_is_not_handed_to_a_kernel(make: Maker) -> None:
    """Which would read and write at address 0."""
    with FakeTensorMode():
        p = Parameter(torch.empty(LARGE))
        p.grad = torch.empty(LARGE)
        make([p]).step()
        with pytest.raises(ConfigError, match=r"fused=True .* a parameter is a FakeTensor"):
            make([p], fused=True).step()


@pytest.mark.parametrize("execution", [{"foreach": False}, {"foreach": True}, {"fused": True}])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_tensor_whose_memory_holds_its_negatives_is_read_as_its_values(
    make: Maker, execution: dict[str, bool], transposed: bool
) -> None:
    def negated(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch._neg_view(torch.randn(20, 32, generator=generator))
        return x.t() if transposed else x

    odd, plain = Parameter(negated(0)), Parameter(negated(0).resolve_neg())
    assert odd.is_neg()
    first, second = make([odd], **execution), make([plain], foreach=False)
    for t in range(1, 3):
        odd.grad, plain.grad = negated(t), negated(t).resolve_neg()
        first.step()
        second.step()
    assert odd.is_neg()
    torch.testing.assert_close(odd.resolve_neg(), plain)
