"""Wide ResNet against the published parameter counts and the definition written out flat."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nos_repro.errors import ConfigError
from nos_repro.experiments.load import load_study
from nos_repro.tasks.facts.wide_resnet import WideResNetSettings
from nos_repro.tasks.wide_resnet import Block, WideResNet

# fmt: off
PUBLISHED = [
    (40, 4,  8_949_210),
    (16, 8, 10_961_370),
    (28, 10, 36_479_194),
    (40, 2,  2_243_546),
]
# fmt: on


@pytest.mark.parametrize(("depth", "width", "parameters"), PUBLISHED)
def test_published_parameter_counts(depth: int, width: int, parameters: int) -> None:
    with torch.device("meta"):
        task = WideResNet(WideResNetSettings(depth=depth, width=width))
    assert sum(p.numel() for p in task.parameters()) == parameters


def flat_wide_resnet(layers: list[nn.Module], x: Tensor, depth: int, width: int) -> Tensor:
    """Zagoruyko & Komodakis' network in training, from its convolutions in order of use."""
    convolutions = iter([layer for layer in layers if isinstance(layer, nn.Conv2d)])

    def active(x: Tensor) -> Tensor:
        return F.relu(F.batch_norm(x, None, None, training=True))

    def convolve(x: Tensor, stride: int = 1) -> Tensor:
        weight = next(convolutions).weight
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = convolve(x)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range((depth - 4) // 6):
            stride = stride if block == 0 else 1
            inner = active(x)
            widens = x.shape[1] != channels * width
            y = convolve(active(convolve(inner, stride)))
            x = y + (convolve(inner, stride) if widens else x)
    pooled = active(x).mean((2, 3))
    (linear,) = (layer for layer in layers if isinstance(layer, nn.Linear))
    return F.linear(pooled, linear.weight, linear.bias)


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2)])
def test_the_network_is_the_definition(depth: int, width: int) -> None:
    torch.manual_seed(0)
    task = WideResNet(WideResNetSettings(depth=depth, width=width)).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = flat_wide_resnet(list(task.modules()), images, depth, width)
    torch.testing.assert_close(task.model(images), expected)


def test_the_shortcut_is_a_convolution_only_if_widths_differ() -> None:
    blocks = [
        m for m in WideResNet(WideResNetSettings(depth=16, width=1)).model if isinstance(m, Block)
    ]
    kernels = [b.shortcut.kernel_size if b.shortcut is not None else None for b in blocks]
    assert kernels == [None, None, (1, 1), None, (1, 1), None]


def test_convolutions_start_normal_with_variance_two_over_fan_in() -> None:
    torch.manual_seed(0)
    task = WideResNet(WideResNetSettings(depth=16, width=4))
    for layer in task.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            expected = math.sqrt(2 / layer.weight[0].numel())
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.03)
            assert layer.bias is None


def test_the_linear_layers_biases_start_at_0_at_the_papers_scale_and_nothing_else_changes(
    root: Path,
) -> None:
    for name in ("table1", "table2", "table6", "filter"):
        paper, small = (
            load_study(root / "configs" / f"{name}.yaml", scale=scale).task.get("zero_bias", False)
            for scale in ("paper", "small")
        )
        assert (paper, small) == (True, False)
    states = []
    for zero in (True, False):
        torch.manual_seed(0)
        states.append(WideResNet(WideResNetSettings(depth=10, width=1, zero_bias=zero)))
    ours, theirs = (dict(task.named_parameters()) for task in states)
    changed = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    (linear,) = (name for name, m in states[0].named_modules() if isinstance(m, nn.Linear))
    assert changed == [f"{linear}.bias"]
    assert not ours[f"{linear}.bias"].any()


@pytest.mark.parametrize("depth", [4, 41, -2])
def test_a_depth_that_is_not_6n_plus_4_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match=rf"task\.depth must be 6n\+4 .*, got {depth}"):
        WideResNetSettings(depth=depth)


def test_a_width_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.width must be at least 1, got 0"):
        WideResNetSettings(width=0)
