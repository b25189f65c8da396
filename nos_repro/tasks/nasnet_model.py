"""NASNet-A (Zoph et al. 2017): two kinds of cells as tables, and the network built from them.

What the paper leaves out follows the authors' TensorFlow code: "same" padding as in TensorFlow, the
stem, the factorised reduction, the auxiliary head, the initial weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nos_repro.tasks.depthwise import depthwise
from nos_repro.tasks.facts.nasnet import AUXILIARY_POOL, WIDTH, inner_side

Map = Float[Tensor, "batch channels height width"]
Out = Float[Tensor, "batch channels_out height_out width_out"]


class Operation(NamedTuple):
    """`sep5(0)` is a separable 5x5 convolution of state 0; `avg3`, `max3` are pools."""

    kind: str
    kernel: int
    state: int


class CellTable(NamedTuple):
    """A cell. State 0 is the current input, 1 the previous one, 2 and on the steps' results."""

    steps: tuple[tuple[Operation, Operation], ...]
    concat: tuple[int, ...]
    stride: int
    """The stride of the operations on states 0 and 1; the others have 1."""


def table(*steps: str, concat: range, stride: int) -> CellTable:
    """The table for steps such as `sep5(0) + sep3(1)`."""
    found = [re.findall(r"(sep|avg|max|id)(\d?)\((\d)\)", step) for step in steps]
    pairs = [[Operation(kind, int(k or 1), int(state)) for kind, k, state in f] for f in found]
    return CellTable(tuple((left, right) for left, right in pairs), tuple(concat), stride)


# fmt: off
NORMAL = table(
    "sep5(0) + sep3(1)",
    "sep5(1) + sep3(1)",
    "avg3(0) +   id(1)",
    "avg3(1) + avg3(1)",
    "sep3(0) +   id(0)",
    concat=range(1, 7), stride=1,
)
REDUCTION = table(
    "sep5(0) + sep7(1)",
    "max3(0) + sep7(1)",
    "avg3(0) + sep5(1)",
    "id(3)   + avg3(2)",
    "sep3(2) + max3(0)",
    concat=range(3, 7), stride=2,
)
# fmt: on

STEM_FILTERS = 32
STACKS = 3
IMAGENET_CLASSES = 1000
AUXILIARY_STRIDE, AUXILIARY_FILTERS = 3, (128, 768)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Before and after, as TensorFlow pads to ceil(size / stride): the odd pixel goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Convolution(nn.Conv2d):
    """A convolution without bias and with TensorFlow's "same" padding; its initial weights are He's
    for fan-out, from a truncated normal distribution."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)
        start(self.weight, kernel * kernel * outputs // groups)

    def forward(self, x: Map) -> Out:
        (kernel, stride), (height, width) = (self.kernel_size[0], self.stride[0]), x.shape[2:]
        if kernel == stride == 1 and x.is_contiguous(memory_format=torch.channels_last):
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1)).permute(0, 3, 1, 2)
        rows, columns = same_padding(height, kernel, stride), same_padding(width, kernel, stride)
        even = rows[0] == rows[1] and columns[0] == columns[1]
        if not even:
            x = F.pad(x, (*columns, *rows))
        padding = (rows[0], columns[0]) if even else (0, 0)
        if self.groups > 1:
            return depthwise(x, self.weight, stride, padding)
        return F.conv2d(x, self.weight, None, stride, padding)


def start(weight: Tensor, fan_out: int) -> None:
    """TensorFlow's variance scaling: N(0, 2 / fan_out) up to two standard deviations; the variance
    is 1.3 times as large to make up for what is cut off."""
    std = math.sqrt(1.3 * 2 / fan_out)
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class ReplicaNorm(nn.Module):
    """Batch norm over the images of one replica.

    Synchronous replicas share gradients, not statistics: each normalises with its own images,
    wherever it is computed. So this is not an `nn.BatchNorm2d`, which would be made to see the
    images of all processes. In training, ``batch`` takes the mean over the replicas of a pass; what
    evaluation uses moves once per update, which is the task's work.

    ``replicas`` says how many the images of a pass belong to, in turn: image i to replica
    i % replicas.
    """

    mean: Tensor
    variance: Tensor
    batch: Tensor
    """The mean and the variance of the last pass: [2, channels]."""

    def __init__(self, channels: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps
        self.replicas = 1
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("batch", torch.ones(2, channels), persistent=False)

    def forward(self, x: Map) -> Out:
        if self.training and self.replicas > 1:
            return self._by_replica(x)
        mean, variance = self.batch if self.training else (self.mean, self.variance)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, 1.0, self.eps)

    def _by_replica(self, x: Map) -> Out:
        """One call for all replicas: as every channel has its own statistics, so has every channel
        of every replica. Images that follow each other in memory become channels by a view; in
        channels-last they are copied."""
        k, (channels, height, width) = self.replicas, x.shape[1:]
        apart = x.view(-1, k, channels, height, width).flatten(1, 2)
        mean, variance = found = self.batch.new_zeros(2, k * channels)
        weight, bias = self.weight.repeat(k), self.bias.repeat(k)
        out = F.batch_norm(apart, mean, variance, weight, bias, True, 1.0, self.eps)
        with torch.no_grad():
            torch.mean(found.view(2, k, channels), 1, out=self.batch)
        out = out.view(-1, k, channels, height, width).flatten(0, 1)
        if x.is_contiguous(memory_format=torch.channels_last):
            return out.contiguous(memory_format=torch.channels_last)
        return out


class Separable(nn.Module):
    """(ReLU, depthwise, pointwise, norm) twice, the stride in the first; its input is activated."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.depthwise1 = Convolution(inputs, inputs, kernel, stride, groups=inputs)
        self.pointwise1 = Convolution(inputs, outputs)
        self.norm1 = ReplicaNorm(outputs)
        self.depthwise2 = Convolution(outputs, outputs, kernel, groups=outputs)
        self.pointwise2 = Convolution(outputs, outputs)
        self.norm2 = ReplicaNorm(outputs)

    def forward(self, active: Map) -> Out:
        inner = F.relu_(self.norm1(self.pointwise1(self.depthwise1(active))))
        out: Tensor = self.norm2(self.pointwise2(self.depthwise2(inner)))
        return out


class FactorisedReduction(nn.Module):
    """Half the size: every second pixel through one 1x1 convolution, their lower right neighbours
    through another, side by side; its input is activated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.path1 = Convolution(inputs, outputs // 2)
        self.path2 = Convolution(inputs, outputs - outputs // 2)
        self.norm = ReplicaNorm(outputs)

    def forward(self, active: Map) -> Out:
        height, width = active.shape[2:]
        behind = F.pad(active[:, :, 1::2, 1::2], (0, width % 2, 0, height % 2))
        paths = self.path1(F.avg_pool2d(active, 1, 2)), self.path2(behind)
        out: Tensor = self.norm(torch.cat(paths, dim=1))
        return out


class Projection(nn.Sequential):
    """1x1 convolution and norm; its input is activated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(Convolution(inputs, outputs), ReplicaNorm(outputs))


def pool(kind: str, x: Map, kernel: int, stride: int) -> Out:
    """An average or a maximum over the pixels that exist, padded as in TensorFlow.

    `ceil_mode` is the padding after.
    """
    pads = {same_padding(size, kernel, stride) for size in x.shape[2:]}
    before = [same_padding(size, kernel, stride)[0] for size in x.shape[2:]]
    behind = any(first != second for first, second in pads)
    if kind == "max":
        return F.max_pool2d(x, kernel, stride, before, ceil_mode=behind)
    return F.avg_pool2d(x, kernel, stride, before, behind, count_include_pad=False)


class MapShape(NamedTuple):
    """A map's channels, and how often its sides were halved."""

    channels: int
    halvings: int


class NasnetCell(nn.Module):
    """A table's cell with that many filters. Inputs and output are activated: everything that reads
    the output of a cell would begin with a ReLU.

    Without a ``previous`` shape the current input is also the previous one, unchanged. A previous
    input that has the cell's size and width is not projected.
    """

    def __init__(
        self, table: CellTable, filters: int, current: MapShape, previous: MapShape | None
    ) -> None:
        super().__init__()
        self.table = table
        self.current = Projection(current.channels, filters)
        self.previous: nn.Module | None = None
        widths = [filters] * (2 + len(table.steps))
        if previous is None:
            widths[1] = current.channels
        elif previous.halvings != current.halvings:
            self.previous = FactorisedReduction(previous.channels, filters)
        elif previous.channels != filters:
            self.previous = Projection(previous.channels, filters)
        self.separable = nn.ModuleDict()
        for name, operation in self._operations():
            assert operation.kind == "sep" or widths[operation.state] == filters
            if operation.kind == "sep":
                stride = self._stride(operation)
                self.separable[name] = Separable(
                    widths[operation.state], filters, operation.kernel, stride
                )
        self.shape = MapShape(
            filters * len(table.concat), current.halvings + (1 if table.stride == 2 else 0)
        )

    def _operations(self) -> Iterator[tuple[str, Operation]]:
        for place, (left, right) in enumerate(self.table.steps):
            yield f"{place}_left", left
            yield f"{place}_right", right

    def _stride(self, operation: Operation) -> int:
        return self.table.stride if operation.state < 2 else 1

    def forward(
        self,
        current: Float[Tensor, "batch channels_in height width"],
        previous: Float[Tensor, "batch channels_before height_before width_before"],
    ) -> Out:
        states: list[Tensor] = [self.current(current), previous]
        if self.previous is not None:
            states[1] = self.previous(previous)
        active: dict[int, Tensor] = {} if self.previous else {1: previous}

        def apply(name: str, operation: Operation) -> Tensor:
            x = states[operation.state]
            if operation.kind == "id":
                return x
            if operation.kind != "sep":
                return pool(operation.kind, x, operation.kernel, self._stride(operation))
            if operation.state not in active:
                active[operation.state] = F.relu(x)
            out: Tensor = self.separable[name](active[operation.state])
            return out

        for place, (left, right) in enumerate(self.table.steps):
            one = apply(f"{place}_left", left)
            states.append(one + (one if left == right else apply(f"{place}_right", right)))
        return F.relu_(torch.cat([states[place] for place in self.table.concat], dim=1))


class AuxiliaryHead(nn.Module):
    """A second classifier on an inner map of `size` pixels per side, only for training."""

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        side = (size - AUXILIARY_POOL) // AUXILIARY_STRIDE + 1
        inner, outer = AUXILIARY_FILTERS
        self.projection = Projection(channels, inner)
        self.whole = nn.Conv2d(inner, outer, side, bias=False)
        self.norm = ReplicaNorm(outer)
        self.classifier = Classifier(outer, classes)
        start(self.whole.weight, side * side * outer)

    def forward(self, active: Map) -> Float[Tensor, "batch classes"]:
        x = F.relu_(self.projection(F.avg_pool2d(active, AUXILIARY_POOL, AUXILIARY_STRIDE)))
        x = F.relu_(self.norm(self.whole(x)))
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


class Classifier(nn.Linear):
    """The initial weights are those of the convolutions, the biases 0.

    *Departure*: the fan-out is ImageNet's 1000 even when there are fewer classes. Scaled for 21
    classes, the initial logits would be 5 and the initial loss 11 nats, where chance is 3.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, classes)
        start(self.weight, max(classes, IMAGENET_CLASSES))
        nn.init.zeros_(self.bias)


class NASNet(nn.Module):
    """NASNet-A (cells @ filters): three stacks of ``cells`` normal cells, a reduction before the
    second and the third; ``filters`` are those of the last map (mobile: 4 @ 1056).

    The stem `imagenet` is a 3x3 convolution of stride 2 and two reduction cells; `cifar` is only a
    3x3 convolution. ``auxiliary`` is the side of the images, or None for no auxiliary head.
    """

    def __init__(
        self,
        cells: int,
        filters: int,
        classes: int,
        *,
        stem: str = "imagenet",
        auxiliary: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        width = filters // WIDTH
        large = stem == "imagenet"
        stem_filters = STEM_FILTERS if large else 3 * width
        # fmt: off
        plan = [(REDUCTION, width // 4), (REDUCTION, width // 2)] if large else []
        # fmt: on
        for stack in range(STACKS):
            plan += [(REDUCTION, width << stack)] if stack else []
            plan += [(NORMAL, width << stack)] * cells
        self.stem = nn.Conv2d(3, stem_filters, 3, 2 if large else 1, 0 if large else 1, bias=False)
        self.stem_norm = ReplicaNorm(stem_filters)
        start(self.stem.weight, 9 * stem_filters)
        self.cells = nn.ModuleList()
        shapes: list[MapShape | None] = [None, MapShape(stem_filters, 0)]
        if not large:
            shapes[0] = shapes[1]
        for kind, wide in plan:
            previous, current = shapes[-2:]
            assert current is not None
            cell = NasnetCell(kind, wide, current, previous)
            self.cells.append(cell)
            shapes.append(cell.shape)
        self.auxiliary_after = len(plan) - cells - 2
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary is not None:
            side = inner_side(auxiliary, stem)
            seen = shapes[self.auxiliary_after + 2]
            assert seen is not None
            self.auxiliary = AuxiliaryHead(seen.channels, side, classes)
        self.dropout = nn.Dropout(dropout)
        self.classifier = Classifier(cell.shape.channels, classes)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"] | None]:
        """The logits, and in training those of the auxiliary head if there is one."""
        before = now = F.relu_(self.stem_norm(self.stem(images)))
        second = None
        for place, cell in enumerate(self.cells):
            before, now = now, cell(now, before)
            if place == self.auxiliary_after and self.training and self.auxiliary is not None:
                second = self.auxiliary(now)
        return self.classifier(self.dropout(now.mean((2, 3)))), second


def norms(network: nn.Module) -> list[ReplicaNorm]:
    return [module for module in network.modules() if isinstance(module, ReplicaNorm)]


def decayed(network: nn.Module) -> list[Tensor]:
    """The weights of convolutions and linear layers: what weight decay acts on."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [layer.weight for layer in layers]
