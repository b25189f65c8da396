"""NASNet-A against what its authors published, and another implementation with the same weights."""

import math
import re

import pretrainedmodels
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nos_repro.tasks.depthwise import depthwise
from nos_repro.tasks.nasnet_model import (
    NORMAL,
    REDUCTION,
    MapShape,
    NASNet,
    NasnetCell,
    Operation,
    ReplicaNorm,
    decayed,
    norms,
    pool,
    same_padding,
)

# fmt: off
PARAMETERS = [
    # classes, side of the images for the auxiliary head -> trainable parameters
    (1000, None, 5_289_978),
    (10,   None, 4_243_548),
    (1000, 224,  7_701_218),
]
MULTIPLY_ADDS = 563_638_816
SHAPES = {
    # cells in the order of use -> what a 224 x 224 image has become
    "stem_norm": (32, 111, 111),
    "cells.0":   (44, 56, 56),
    "cells.1":   (88, 28, 28),
    **{f"cells.{i}": (264, 28, 28)  for i in range(2, 6)},
    "cells.6":   (352, 14, 14),
    **{f"cells.{i}": (528, 14, 14)  for i in range(7, 11)},
    "cells.11":  (704, 7, 7),
    **{f"cells.{i}": (1056, 7, 7)   for i in range(12, 16)},
}
PEERS = [
    "cell_stem_0", "cell_stem_1", "cell_0", "cell_1", "cell_2", "cell_3", "reduction_cell_0",
    "cell_6", "cell_7", "cell_8", "cell_9", "reduction_cell_1",
    "cell_12", "cell_13", "cell_14", "cell_15",
]
RENAMED = [
    (r"^cells\.(\d+)", lambda found: PEERS[int(found[1])]),
    (r"separable\.(\d)_(left|right)", r"comb_iter_\1_\2"),
    (r"(depthwise|pointwise)(\d)", r"separable_\2.\1_conv2d"),
    (r"norm(\d)", r"bn_sep_\1"),
    (r"current\.0", "conv_1x1.conv"),       (r"current\.1", "conv_1x1.bn"),
    (r"previous\.0", "conv_prev_1x1.conv"), (r"previous\.1", "conv_prev_1x1.bn"),
    (r"previous\.path(\d)", r"path_\1.conv"),
    (r"previous\.norm", "final_path_bn"),
    (r"^stem_norm", "conv0.bn"),            (r"^stem\.", "conv0.conv."),
    (r"^classifier", "last_linear"),
    (r"mean$", "running_mean"),             (r"variance$", "running_var"),
]
# fmt: on


@pytest.fixture(scope="module")
def mobile() -> NASNet:
    torch.manual_seed(0)
    return NASNet(4, 1056, 1000).eval()


@pytest.mark.parametrize(("classes", "auxiliary", "count"), PARAMETERS)
def test_the_published_counts_of_parameters(
    classes: int, auxiliary: int | None, count: int
) -> None:
    with torch.device("meta"):
        network = NASNet(4, 1056, classes, auxiliary=auxiliary)
    assert sum(p.numel() for p in network.parameters()) == count


def test_the_published_multiply_adds_and_shapes_of_the_real_graph(mobile: NASNet) -> None:
    found = {}
    for name in SHAPES:
        mobile.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: found.update({name: tuple(out.shape[1:])})
        )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        mobile(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() == 2 * MULTIPLY_ADDS
    assert found == SHAPES


def peer_name(name: str) -> str:
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    return name


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_peers_network_with_the_peers_weights_gives_the_peers_logits(
    mobile: NASNet, channels_last: bool
) -> None:
    """Its padding is made by zeros before and by cropping. For maps of even size that is
    TensorFlow's, and so ours, at 224 pixels throughout: nothing is to be switched. A reduction of
    a map of odd size, which TensorFlow pads by equal parts, it cannot do but in the stem."""
    torch.manual_seed(1)
    peer = pretrainedmodels.nasnetamobile(num_classes=1000, pretrained=None).eval()
    for module in peer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    theirs = {k: v for k, v in peer.state_dict().items() if "num_batches" not in k}
    mapped = {name: theirs.pop(peer_name(name)) for name in mobile.state_dict()}
    assert not theirs
    mobile.load_state_dict(mapped)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = 2 * torch.rand(1, 3, 224, 224) - 1
    with torch.no_grad():
        expected = peer(images)
        logits, second = mobile.to(memory_format=layout)(images.contiguous(memory_format=layout))
    assert second is None
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())


def test_the_cells_read_as_the_paper_draws_them() -> None:
    assert NORMAL.steps[0] == (Operation("sep", 5, 0), Operation("sep", 3, 1))
    assert REDUCTION.steps[3] == (Operation("id", 1, 3), Operation("avg", 3, 2))
    for cell, channels, halvings in ((NORMAL, 6 * 8, 0), (REDUCTION, 4 * 8, 1)):
        built = NasnetCell(cell, 8, MapShape(12, 0), MapShape(12, 0))
        assert built.shape == MapShape(channels, halvings)
        x = torch.rand(2, 12, 10, 10)
        assert built(x, x).shape == (2, channels, 10 >> halvings, 10 >> halvings)


def test_a_previous_input_of_the_cells_own_size_and_width_is_not_projected() -> None:
    """As in the authors' code; with one cell per stack that is the first reduction's."""
    network = NASNet(1, 96, 10)
    assert [cell.previous is None for cell in network.cells] == [
        True, False, False, True, False, False, False
    ]  # fmt: skip
    assert network(torch.rand(2, 3, 64, 64))[0].shape == (2, 10)
    assert all(cell.previous is not None for cell in NASNet(2, 96, 10).cells[1:])


# fmt: off
PADDINGS = [
    (111, 7, 2, (3, 3)),
    (56,  7, 2, (2, 3)),
    (28,  5, 2, (1, 2)),
    (14,  3, 2, (0, 1)),
    (7,   3, 1, (1, 1)),
]
# fmt: on


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), PADDINGS)
def test_same_padding_is_tensorflows(
    size: int, kernel: int, stride: int, padding: tuple[int, int]
) -> None:
    """tensorflow.org: out = ceil(in / stride), the odd pixel goes behind."""
    assert same_padding(size, kernel, stride) == padding
    assert (size + sum(padding) - kernel) // stride + 1 == math.ceil(size / stride)


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_pools_see_only_real_pixels(size: int, stride: int) -> None:
    x = torch.randn(1, 2, size, size)
    before = same_padding(size, 3, stride)[0]
    for kind, of in (("avg", Tensor.mean), ("max", Tensor.amax)):
        out = pool(kind, x, 3, stride)
        for i in range(math.ceil(size / stride)):
            for j in range(math.ceil(size / stride)):
                a, b = max(i * stride - before, 0), max(j * stride - before, 0)
                seen = x[..., a : i * stride - before + 3, b : j * stride - before + 3]
                torch.testing.assert_close(out[..., i, j], of(seen, (2, 3)))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradients_by_columns_are_those_of_the_convolution(
    kernel: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 9, 11, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight, padding = torch.randn(6, 1, kernel, kernel, dtype=dtype), (kernel // 2, kernel // 2)
    x.requires_grad_()
    weight.requires_grad_()
    ours = depthwise(x, weight, 1, padding)
    theirs = F.conv2d(x, weight, None, 1, padding, groups=6)
    assert torch.equal(ours, theirs)
    given = torch.randn_like(ours)
    for own, other in zip(
        torch.autograd.grad(ours, (x, weight), given),
        torch.autograd.grad(theirs, (x, weight), given),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_is_torchs_batch_norm_of_each_replica_and_its_statistics_their_mean(
    replicas: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    ours, theirs = ReplicaNorm(4), nn.BatchNorm2d(4, eps=1e-3, momentum=1.0)
    ours.replicas = replicas
    for _ in range(3):
        x = torch.randn(2 * replicas, 4, 3, 3).to(memory_format=layout)
        out, means, variances = ours(x), [], []
        assert out.is_contiguous(memory_format=layout)
        for replica in range(replicas):
            own = slice(replica, None, replicas)
            torch.testing.assert_close(out[own], theirs(x[own]))
            assert theirs.running_mean is not None
            assert theirs.running_var is not None
            means.append(theirs.running_mean.clone())
            variances.append(theirs.running_var.clone())
        torch.testing.assert_close(ours.batch[0], torch.stack(means).mean(0))
        torch.testing.assert_close(ours.batch[1], torch.stack(variances).mean(0))
    assert torch.equal(ours.mean, torch.zeros(4)), "evaluation's statistics wait for the update"


def test_weights_start_as_tensorflows_variance_scaling_by_fan_out() -> None:
    torch.manual_seed(0)
    network = NASNet(1, 480, 64)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for name, layer in layers.items():
        if layer.weight.numel() > 4000:
            groups = getattr(layer, "groups", 1)
            few = isinstance(layer, nn.Linear)  # 64 classes, and yet those of ImageNet
            fan_out = 1000 if few else layer.weight[0, 0].numel() * len(layer.weight) // groups
            std = layer.weight.std().item()
            assert std == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), name


def test_weight_decay_acts_on_the_weights_of_all_layers_and_on_nothing_else() -> None:
    network = NASNet(1, 96, 10, auxiliary=224)
    own = {id(weight) for weight in decayed(network)}
    left = [name for name, p in network.named_parameters() if id(p) not in own]
    assert len(left) == 2 * len(norms(network)) + 2
    assert all("norm" in name or re.search(r"\.1\.|bias$", name) for name in left)
