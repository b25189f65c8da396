"""Training steps of NASNet-A mobile on one core, against PyPI's `pretrainedmodels`.

A step is forward, backward and an SGD update on 32 images of 224 pixels, in fp32. The peer runs by
default (contiguous) and in channels-last; ours runs as in a study but without its auxiliary head,
which the peer lacks. Processor time is compared, since other processes may share the core.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.tasks.nasnet_model import NASNet

IMAGES, SIDE, CLASSES, ROUNDS = 32, 224, 1000, 5
AS_IT_COMES, CHANNELS_LAST = 2.3, 1.4


@BENCHMARKS.register("nasnet-step")
def nasnet_step() -> Iterator[Measurement]:
    """Images per second of each, and ours over both forms of the peer."""
    try:
        import pretrainedmodels
    except ImportError:
        print("  the peer is not installed: pip install pretrainedmodels")
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peer = pretrainedmodels.nasnetamobile(num_classes=CLASSES, pretrained=None)
        ours, last = NASNet(4, 1056, CLASSES), torch.channels_last
        subjects = {
            "ours, channels-last": _Steps(ours, lambda x: ours(x)[0], last),
            "peer, contiguous": _Steps(peer, peer, torch.contiguous_format),
        }
        other = copy.deepcopy(peer)
        subjects["peer, channels-last"] = _Steps(other, other, last)
        seconds = interleave(subjects, rounds=ROUNDS, clock=time.process_time)
        for name, taken in seconds.items():
            yield Measurement(name, Ratio.rate(taken, IMAGES, "images/s"))
        mine, plain, theirs = subjects
        for name, budget in ((plain, AS_IT_COMES), (theirs, CHANNELS_LAST)):
            what = f"times faster than the {name}"
            yield Measurement(what, Ratio.between(seconds, name, mine), at_least=budget)
    finally:
        torch.set_num_threads(threads)


class _Steps:
    def __init__(
        self, network: nn.Module, logits: Callable[[Tensor], Tensor], layout: torch.memory_format
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        images = 2 * torch.rand(IMAGES, 3, SIDE, SIDE, generator=generator) - 1
        self.network = network.to(memory_format=layout)
        self.images = images.contiguous(memory_format=layout)
        self.labels = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
        self.logits = logits
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(self.logits(self.images), self.labels))
        self.optimizer.step()
