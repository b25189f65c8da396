"""The fused layer is batch norm and ReLU, with a compiler and without one."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nos_repro.errors import ConfigError
from nos_repro.tasks import norm_relu
from nos_repro.tasks.facts.wide_resnet import WideResNetSettings
from nos_repro.tasks.norm_relu import NormReLU
from nos_repro.tasks.wide_resnet import WideResNet

CHANNELS = 16


def pair() -> tuple[NormReLU, nn.Sequential]:
    """The layer and PyTorch's own two, with equal weights that are not the initial ones."""
    torch.manual_seed(0)
    fused = NormReLU(CHANNELS, fused=True)
    nn.init.normal_(fused.weight)
    nn.init.normal_(fused.bias)
    norm = nn.BatchNorm2d(CHANNELS)
    norm.load_state_dict(fused.state_dict())
    return fused, nn.Sequential(norm, nn.ReLU())


def images_of(dtype: torch.dtype = torch.float32) -> Tensor:
    """Far from 0 in some channels, so that a sum of squares alone would be inaccurate."""
    torch.manual_seed(1)
    images = torch.randn(6, CHANNELS, 8, 12) + torch.linspace(-50, 50, CHANNELS)[:, None, None]
    return images.to(dtype).contiguous(memory_format=torch.channels_last)


def both(images: Tensor) -> list[tuple[Tensor, ...]]:
    """Output, gradients of images, weight and bias, and running statistics of the two."""
    found = []
    for layer in pair():
        x = images.clone(memory_format=torch.preserve_format).requires_grad_()
        out = layer(x)
        torch.manual_seed(2)
        (out * torch.randn(out.shape).bfloat16().float()).sum().backward()
        norm = layer[0] if isinstance(layer, nn.Sequential) else layer
        made = x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var
        assert norm.num_batches_tracked == 1
        found.append((out.detach(), *made))
    return found


def test_it_equals_the_two_modules_forwards_and_backwards() -> None:
    for ours, theirs in zip(*both(images_of()), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_its_statistics_are_those_of_float64() -> None:
    images = images_of()
    fused, _ = pair()
    fused(images)
    exact = nn.BatchNorm2d(CHANNELS).double()
    exact(images.double())
    torch.testing.assert_close(fused.running_mean.double(), exact.running_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(fused.running_var.double(), exact.running_var, rtol=1e-5, atol=0)


def test_bfloat16_images_give_what_their_float32_values_give_but_for_the_last_rounding() -> None:
    images = images_of(torch.bfloat16)
    ours, exact = both(images)[0], both(images.float())[1]
    assert ours[0].dtype == ours[1].dtype == torch.bfloat16
    for mine, right in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.float(), right, atol=1e-2, rtol=2**-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_evaluation_uses_the_running_statistics(dtype: torch.dtype) -> None:
    fused, eager = pair()
    for norm in (fused, eager[0]):
        norm.running_mean.copy_(torch.linspace(-1, 1, CHANNELS))
        norm.running_var.copy_(torch.linspace(0.5, 2, CHANNELS))
    images = images_of(dtype)
    with torch.no_grad():
        ours, theirs = fused.eval()(images), eager.eval()(images.float())
    rounding = (dtype.itemsize < 4) / 128
    torch.testing.assert_close(ours.float(), theirs, atol=1e-4, rtol=1e-5 + rounding)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_value_that_is_not_finite_spoils_its_own_channel(bad: float, dtype: torch.dtype) -> None:
    images = images_of(dtype)
    images[2, 5, 3, 3] = bad
    fused, _ = pair()
    out = fused(images)
    assert out[:, 5].isnan().all()
    assert out[:, :5].isfinite().all()
    assert out[:, 6:].isfinite().all()


def test_a_network_takes_the_same_steps_with_it_and_keeps_the_same_names() -> None:
    losses, names = [], []
    for fused in (False, True):
        torch.manual_seed(0)
        task = WideResNet(WideResNetSettings(depth=10, width=1, channels_last=True, fused=fused))
        optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
        images, labels = torch.randn(20, 3, 32, 32), torch.arange(20) % 10
        for _ in range(5):
            optimizer.zero_grad()
            loss = task.training_step((images, labels))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        names.append([name for name, _ in task.named_parameters()])
    assert losses[:5] == pytest.approx(losses[5:], rel=1e-4)
    assert names[0] == names[1]


def test_without_a_compiler_it_warns_and_is_the_two_modules_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc")
    norm_relu._library.cache_clear()
    with pytest.warns(UserWarning, match="`fused: true` needs a C compiler"):
        ours, theirs = both(images_of())
    norm_relu._library.cache_clear()
    assert all(map(torch.equal, ours, theirs))


def test_double_precision_and_other_layouts_go_the_ordinary_way() -> None:
    fused, eager = pair()
    for images in (images_of().contiguous(), torch.randn(3, CHANNELS, 4, 4)):
        assert torch.equal(fused(images), eager(images))
    fused, eager = copy.deepcopy(fused).double(), copy.deepcopy(eager).double()
    assert torch.equal(fused(images_of().double()), eager(images_of().double()))


def test_it_asks_for_channels_last() -> None:
    with pytest.raises(ConfigError, match=r"task\.fused must be false without channels_last"):
        WideResNetSettings(fused=True)
