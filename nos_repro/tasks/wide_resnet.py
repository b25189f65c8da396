"""Wide ResNet (Zagoruyko & Komodakis 2016), which the papers train to compare rules (sec. 5.1)."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

from nos_repro.tasks.classification import ImageTask
from nos_repro.tasks.facts.wide_resnet import WideResNetFacts
from nos_repro.tasks.norm_relu import NormReLU
from nos_repro.tasks.registry import TASKS


class Block(nn.Module):
    """BN-ReLU-conv3x3(stride)-BN-ReLU-conv3x3, plus a shortcut.

    If the widths differ, the shortcut is a 1x1 strided convolution of the first BN-ReLU's output,
    else the raw input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, fused: bool = False) -> None:
        super().__init__()
        self.norm1 = NormReLU(inputs, fused=fused)
        self.conv1 = _convolution(inputs, outputs, 3, stride)
        self.norm2 = NormReLU(outputs, fused=fused)
        self.conv2 = _convolution(outputs, outputs, 3, 1)
        self.shortcut = None if inputs == outputs else _convolution(inputs, outputs, 1, stride)

    def forward(
        self, x: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height_out width_out"]:
        active = self.norm1(x)
        kept = x if self.shortcut is None else self.shortcut(active)
        inner = self.norm2(self.conv1(active))
        total: Tensor = kept + self.conv2(inner)
        return total


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    """Without bias; weights from N(0, sqrt(2 / fan_in))."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (inputs * kernel * kernel)))
    return layer


@TASKS.register("wide_resnet")
class WideResNet(WideResNetFacts, ImageTask):
    """WRN-depth-width: conv3x3(3->16), three stages of (depth-4)/6 blocks, BN-ReLU-pool-linear.

    *Readings*: neither paper mentions how the linear layer starts. Its weights have torch's
    initialisation, as in the authors' code; so have its biases, which there are 0 (`zero_bias`, the
    scale `paper`).
    """

    def make_model(self, classes: int, size: int) -> nn.Module:
        settings = self.settings
        layers: list[nn.Module] = [_convolution(3, 16, 3, 1)]
        channels = 16
        for base, stride in ((16, 1), (32, 2), (64, 2)):
            for block in range((settings.depth - 4) // 6):
                outputs = base * settings.width
                stride_here = stride if block == 0 else 1
                layers.append(Block(channels, outputs, stride_here, fused=settings.fused))
                channels = outputs
        linear = nn.Linear(channels, classes)
        if settings.zero_bias:
            nn.init.zeros_(linear.bias)
        return nn.Sequential(
            *layers,
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            linear,
        )
