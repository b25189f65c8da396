"""The fused layer is max pool, ReLU and batch norm, with a compiler and without one."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nos_repro.errors import ConfigError
from nos_repro.tasks import fused_norm
from nos_repro.tasks.convnet import ConvNet
from nos_repro.tasks.facts.convnet import ConvNetSettings
from nos_repro.tasks.fused_norm import FusedNorm

CHANNELS = 32


def _pair(pool: int) -> tuple[FusedNorm, nn.Sequential]:
    """The layer and PyTorch's own three, with equal weights that are not the initial ones."""
    torch.manual_seed(0)
    fused = FusedNorm(CHANNELS, pool)
    nn.init.normal_(fused.norm.weight)
    nn.init.normal_(fused.norm.bias)
    eager = nn.Sequential(nn.MaxPool2d(pool), nn.ReLU(), copy.deepcopy(fused.norm))
    return fused, eager


def _images(dtype: torch.dtype = torch.float32) -> Tensor:
    """Sixty-four values only, so that squares have ties."""
    images = torch.randint(-20, 44, (6, CHANNELS, 8, 12)).to(dtype) / 16
    return images.contiguous(memory_format=torch.channels_last)


def _both(images: Tensor, pool: int) -> list[tuple[Tensor, ...]]:
    """Output, gradients of images, weight and bias, and running statistics of the two."""
    found = []
    for layer in _pair(pool):
        x = images.clone(memory_format=torch.preserve_format).requires_grad_()
        out = layer(x)
        torch.manual_seed(1)
        (out * torch.randn(out.shape).bfloat16().float()).sum().backward()
        norm = layer.norm if isinstance(layer, FusedNorm) else layer[2]
        made = x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var
        assert norm.num_batches_tracked == 1
        found.append((out.detach(), *made))
    return found


@pytest.mark.parametrize("pool", [1, 2])
def test_it_equals_the_three_modules_forwards_and_backwards(pool: int) -> None:
    torch.manual_seed(0)
    for ours, theirs in zip(*_both(_images(), pool), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("pool", [1, 2])
def test_bfloat16_images_give_what_their_float32_values_give_but_for_the_last_rounding(
    pool: int,
) -> None:
    torch.manual_seed(0)
    images = _images(torch.bfloat16)
    ours, exact = _both(images, pool)[0], _both(images.float(), pool)[1]
    assert ours[0].dtype == ours[1].dtype == torch.bfloat16
    for mine, right in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.float(), right, atol=1e-2, rtol=2**-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_evaluation_uses_the_running_statistics(dtype: torch.dtype) -> None:
    fused, eager = _pair(2)
    for norm in (fused.norm, eager[2]):
        norm.running_mean.copy_(torch.linspace(-1, 1, CHANNELS))
        norm.running_var.copy_(torch.linspace(0.5, 2, CHANNELS))
    images = _images(dtype)
    with torch.no_grad():
        ours, theirs = fused.eval()(images), eager.eval()(images.float())
    torch.testing.assert_close(
        ours.float(), theirs, atol=1e-5, rtol=1e-5 + (dtype.itemsize < 4) / 128
    )


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_value_that_is_not_finite_is_never_pooled_away(bad: float, dtype: torch.dtype) -> None:
    fused, eager = _pair(2)
    images = _images(dtype)
    images[2, 5, 3, 3] = bad
    with torch.no_grad():
        ours, theirs = fused.eval()(images), eager.eval()(images.float())
    assert torch.equal(ours.isfinite(), theirs.isfinite())
    out = fused.train()(images)
    assert out[:, 5].isnan().all()
    assert out[:, :5].isfinite().all()
    assert out[:, 6:].isfinite().all()


def test_a_child_starts_with_the_same_weights_and_loss_and_takes_the_same_steps() -> None:
    losses = []
    for fused in (False, True):
        torch.manual_seed(0)
        task = ConvNet(ConvNetSettings(channels_last=True, fused=fused))
        optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
        images, labels = torch.randn(20, 3, 32, 32), torch.arange(20) % 10
        for _ in range(5):
            optimizer.zero_grad()
            loss = task.training_step((images, labels))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:5] == pytest.approx(losses[5:], rel=1e-4)


def test_without_a_compiler_it_warns_and_is_the_three_modules_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc")
    fused_norm._library.cache_clear()
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="`fused: true` needs a C compiler"):
        ours, theirs = _both(_images(), 2)
    fused_norm._library.cache_clear()
    assert all(map(torch.equal, ours, theirs))


def test_odd_sizes_double_precision_and_other_layouts_go_the_ordinary_way() -> None:
    fused, eager = _pair(2)
    for images in (_images()[:, :, :7], _images().contiguous(), torch.randn(3, CHANNELS, 4, 4)):
        assert torch.equal(fused(images), eager(images))
    images = _images().double()
    assert torch.equal(fused.double()(images), eager.double()(images))
    fused, eager = (layer.bfloat16() for layer in _pair(2))
    assert torch.equal(fused(images.bfloat16()), eager(images.bfloat16()))


def test_it_asks_for_channels_last() -> None:
    with pytest.raises(ConfigError, match=r"task\.fused must be false without channels_last"):
        ConvNetSettings(fused=True)
