"""The small ConvNet: its parameter counts, its order of layers, its settings."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nos_repro.errors import ConfigError
from nos_repro.tasks.convnet import ConvNet
from nos_repro.tasks.facts.convnet import ConvNetSettings

# fmt: off
PARAMETERS = {"pool": 30_698, "flat": 337_898, "stride": 30_698, "global": 10_538}
# fmt: on


@pytest.mark.parametrize("head", PARAMETERS)
def test_every_head_has_its_count_of_parameters(head: str) -> None:
    task = ConvNet(ConvNetSettings(head=head))
    assert sum(p.numel() for p in task.parameters()) == PARAMETERS[head]
    assert task(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_default_is_convolution_relu_pool_norm_twice() -> None:
    """The layers as the docstring lists them, with ReLU before the pool, which commutes with it."""
    torch.manual_seed(0)
    task = ConvNet(ConvNetSettings()).double()
    convolutions = [m for m in task.modules() if isinstance(m, nn.Conv2d)]
    (linear,) = (m for m in task.modules() if isinstance(m, nn.Linear))
    images = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    x = images
    for layer in convolutions:
        x = F.max_pool2d(F.relu(F.conv2d(x, layer.weight, padding=1)), 2)
        mean, variance = x.mean((0, 2, 3), True), x.var((0, 2, 3), correction=0, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
    logits = F.linear(x.flatten(1), linear.weight, linear.bias)
    torch.testing.assert_close(task.model(images), logits)


def test_memory_format_changes_speed_and_no_weight() -> None:
    tasks = []
    for channels_last in (False, True):
        torch.manual_seed(3)
        tasks.append(ConvNet(ConvNetSettings(channels_last=channels_last)))
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(tasks[0](images), tasks[1](images), atol=1e-5, rtol=1e-4)
    assert all(
        torch.equal(a, b) for a, b in zip(tasks[0].parameters(), tasks[1].parameters(), strict=True)
    )
    assert tasks[1].model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_rounds_the_forward_pass_and_keeps_float32_weights_and_loss() -> None:
    torch.manual_seed(0)
    task = ConvNet(ConvNetSettings(precision="bf16"))
    seen = []
    task.model[0].register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    loss = task.training_step((torch.randn(4, 3, 32, 32), torch.arange(4)))
    loss.backward()
    assert seen == [torch.bfloat16]
    assert loss.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in task.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"head": "max"}, "task.head must be one of: pool flat stride global, got 'max'"),
        ({"precision": "16"}, "task.precision must be one of: 32 bf16, got '16'"),
        ({"batch_size": 0}, "task.batch_size must be at least 1, got 0"),
        ({"train_images": 50}, "task.train_images must be at least one batch of 100, got 50"),
        ({"validation_images": 0}, "task.validation_images must be at least 1, got 0"),
        ({"data": "digit"}, "unknown image set 'digit'\n  did you mean 'digits'?"),
    ],
)
def test_an_impossible_setting_is_named_with_its_choice(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        ConvNetSettings(**given)
    assert message in str(refused.value)
