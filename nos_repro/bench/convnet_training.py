"""Training steps of the small ConvNet on one core, against a plain fp32 loop in the same process.

The budgets are those of the search's children: 3x with the pooling head, 2.3x with the flat one.
The plain loop trains the same network by default settings (fp32, contiguous) with PyTorch's own
`DataLoader`; both update with SGD. The images are the digits, which have CIFAR-10's size and need
no download.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.tasks.base import TaskData
from nos_repro.tasks.convnet import ConvNet
from nos_repro.tasks.facts.convnet import ConvNetSettings

BUDGETS = {"pool": 3.0, "flat": 2.3}
STEPS, ROUNDS = 12, 12


@BENCHMARKS.register("convnet-training")
def convnet_training() -> Iterator[Measurement]:
    """Images per second and their ratio, for both heads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for head, budget in BUDGETS.items():
            yield from _compare(head, budget)
    finally:
        torch.set_num_threads(threads)


def _compare(head: str, budget: float) -> Iterator[Measurement]:
    fast = ConvNetSettings(data="digits", head=head, channels_last=True, precision="bf16")
    plain = ConvNetSettings(data="digits", head=head)
    data = ConvNet.make_data(fast, data_dir=Path("unused"), seed=0)
    loader = _plain_loader(data)
    endless = (data.train_batches(epoch) for epoch in itertools.count())
    seconds = interleave(
        {
            "fast": _training(ConvNet(fast), itertools.chain.from_iterable(endless)),
            "plain": _training(
                ConvNet(plain), itertools.chain.from_iterable(loader for _ in itertools.count())
            ),
        },
        rounds=ROUNDS,
    )
    images = STEPS * fast.batch_size
    speedup = [b / a for a, b in zip(seconds["fast"], seconds["plain"], strict=True)]
    yield Measurement(
        f"{head} head, channels-last bf16", Ratio.rate(seconds["fast"], images, "images/s")
    )
    yield Measurement(f"{head} head, plain fp32", Ratio.rate(seconds["plain"], images, "images/s"))
    yield Measurement(f"{head} head, ours over plain", Ratio.of(speedup), at_least=budget)


def _plain_loader(data: TaskData) -> Iterable[Any]:
    images, labels = zip(*data.train_batches(0), strict=True)
    examples = TensorDataset(torch.cat(images).contiguous(), torch.cat(labels))
    return DataLoader(examples, batch_size=100, shuffle=True)


def _training(task: ConvNet, batches: Iterator[Any]) -> Callable[[], None]:
    optimizer = torch.optim.SGD(task.parameters(), lr=0.01)

    def steps() -> None:
        for batch in itertools.islice(batches, STEPS):
            optimizer.zero_grad()
            torch.autograd.backward(task.training_step(batch))
            optimizer.step()

    return steps
