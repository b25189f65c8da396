"""The search's children: how fast they train, how accurate they are, how many train per hour.

Needs CIFAR-10. Answers three questions in one run:

- Images per second on one core against a plain fp32 loop (contiguous images, PyTorch's
  `DataLoader`, `torch.optim`, default glibc), and the accuracy after 5 epochs on 5,000 images: ten
  seeds, in turns, with the same initial weights for both. Accuracies count as equal if the two
  means lie within one standard error of their difference. The same for the fused layers against
  the eager ones, within two. Also what the child's own loop costs over a bare one, and what
  gradients of 4 bits cost.
- How two workers on two cores compare with one.
- How many healthy rules two workers score per hour with the papers' full child protocol: 7 rates
  for an epoch on 10,000 images, the best for 5 epochs on 45,000.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio
from nos_repro.data import data_folder
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.environment import Environment
from nos_repro.experiments.load import task_section
from nos_repro.launch.local import LocalWorkers
from nos_repro.search.child import Child, Watch, train_in_step
from nos_repro.search.job import EvaluationJob
from nos_repro.tasks.base import TaskData
from nos_repro.tasks.convnet import ConvNet
from nos_repro.tasks.facts.convnet import ConvNetSettings

FASTER = {"pool": 5.0, "flat": 3.5}
FUSED = {"pool": 1.2, "flat": 1.05}
RULES_AN_HOUR = {"pool": 150.0, "flat": 90.0}
SEEDS, EPOCHS, IMAGES, RATE = 10, 5, 5000, 0.03
RULES = ("exp(sign(g) * sign(m)) * g", "adam", "m * exp(v)", "sign(m) * sqrt(g)")


@BENCHMARKS.register("child-training")
def child_training() -> Iterator[Measurement]:
    """Speed and accuracy against a plain loop; two workers; rules per hour."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    conditions = Conditions(data_folder(None), device="cpu")
    try:
        yield _two_workers(conditions)
        for head in RULES_AN_HOUR:
            yield _rules_an_hour(head, conditions)
        for head in FASTER:
            yield from _against_plain(head, conditions)
    finally:
        torch.set_num_threads(threads)


def _task(head: str, **changes: Any) -> dict[str, Any]:
    """The task of `configs/search.yaml`."""
    fast = {"channels_last": True, "precision": "bf16", "fused": True}
    return task_section({"name": "convnet", "head": head, **fast, **changes})


def _against_plain(head: str, conditions: Conditions) -> Iterator[Measurement]:
    turns = {"ours": _ours, "bare": _bare, "plain": _plain, "eager": _eager, "4 bits": _four_bits}
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    accuracy: dict[str, list[float]] = {name: [] for name in turns}
    for seed in range(SEEDS):
        for name in turns if seed % 2 == 0 else reversed(list(turns)):
            taken, right = turns[name](head, seed, conditions)
            seconds[name].append(taken)
            accuracy[name].append(right)
    for name in ("ours", "plain", "eager"):
        yield Measurement(
            f"{head} head, {name}", Ratio.rate(seconds[name], EPOCHS * IMAGES, "images/s")
        )
        yield Measurement(
            f"{head} head, {name}: accuracy of {SEEDS} seeds", Ratio.of(accuracy[name], "%")
        )
    for name, faster, errors in (("plain", FASTER[head], 1.0), ("eager", FUSED[head], 2.0)):
        yield Measurement(
            f"{head} head, ours over {name}: images per second",
            Ratio.between(seconds, name, "ours"),
            at_least=faster,
        )
        apart = standard_errors(accuracy["ours"], accuracy[name])
        yield Measurement(
            f"{head} head, ours and {name}: means apart, in standard errors",
            Ratio(apart, apart, apart, SEEDS, "s.e."),
            at_most=errors,
        )
    yield Measurement(
        f"{head} head, ours over a bare loop: time",
        Ratio.between(seconds, "ours", "bare"),
        at_most=1.05,
    )
    yield Measurement(
        f"{head} head, gradients of 4 bits over plain ones: time",
        Ratio.between(seconds, "4 bits", "ours"),
        at_most=1.1,
    )


def standard_errors(ours: Sequence[float], plain: Sequence[float]) -> float:
    """The difference of the means in units of its standard error."""
    variance = statistics.variance(ours) + statistics.variance(plain)
    return abs(statistics.fmean(ours) - statistics.fmean(plain)) / math.sqrt(variance / len(ours))


def _ours(head: str, seed: int, conditions: Conditions) -> tuple[float, float]:
    """The seconds of the child's own loop, and the accuracy."""
    return _child(Child(_task(head, train_images=IMAGES), epochs=EPOCHS), seed, conditions)


def _eager(head: str, seed: int, conditions: Conditions) -> tuple[float, float]:
    """The same with max pool, ReLU and batch norm one after the other."""
    task = _task(head, train_images=IMAGES, fused=False)
    return _child(Child(task, epochs=EPOCHS), seed, conditions)


def _four_bits(head: str, seed: int, conditions: Conditions) -> tuple[float, float]:
    """The same as ours, in an environment."""
    task, environment = _task(head, train_images=IMAGES), Environment(bits=4)
    return _child(Child(task, epochs=EPOCHS, environment=environment), seed, conditions)


def _child(child: Child, seed: int, conditions: Conditions) -> tuple[float, float]:
    run = build(child.trial("sgd", RATE, seed, sweep=False), conditions)
    started = time.perf_counter()
    assert train_in_step([run], Watch(float("inf"), lambda: False))
    taken = time.perf_counter() - started
    return taken, run.evaluate(run.data.val_batches(), "val")["val_accuracy"]


def _bare(head: str, seed: int, conditions: Conditions) -> tuple[float, float]:
    """The child's module and batches with nothing around them."""
    values = {k: v for k, v in _task(head, train_images=IMAGES).items() if k != "name"}
    settings = ConvNetSettings(**values)
    data = ConvNet.make_data(settings, data_dir=conditions.data_dir, seed=seed)
    torch.manual_seed(seed)
    model = ConvNet(settings)
    taken = _loop(model, lambda epoch: data.train_batches(epoch))
    return taken, _accuracy(model, data)


def _plain(head: str, seed: int, conditions: Conditions) -> tuple[float, float]:
    """The same network, trained with a plain loop."""
    settings = ConvNetSettings(head=head, train_images=IMAGES)
    data = ConvNet.make_data(settings, data_dir=conditions.data_dir, seed=seed)
    torch.manual_seed(seed)
    model, loader = ConvNet(settings), _loader(data, seed)
    taken = _loop(model, lambda epoch: loader)
    return taken, _accuracy(model, data)


def _loop(model: ConvNet, batches: Callable[[int], Iterable[Any]]) -> float:
    """Trains; returns the seconds it took."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    started = time.perf_counter()
    for epoch in range(EPOCHS):
        for images, labels in batches(epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return time.perf_counter() - started


def _accuracy(model: ConvNet, data: TaskData) -> float:
    model.eval()
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).double() for x, y in data.val_batches()]
    return 100 * float(torch.cat(right).mean())


def _loader(data: TaskData, seed: int) -> Iterable[Any]:
    images, labels = zip(*data.train_batches(0), strict=True)
    examples = TensorDataset(torch.cat(images).contiguous(), torch.cat(labels))
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(examples, batch_size=100, shuffle=True, generator=generator)


def _two_workers(conditions: Conditions) -> Measurement:
    """Children per hour of two workers over those of one, in turns."""
    child = Child(_task("pool", train_images=2000), rates=[0.01, 0.1], epochs=2)
    ratios = []
    for _ in range(5):
        one = _seconds_a_child(1, 3, child, conditions)
        two = _seconds_a_child(2, 6, child, conditions)
        ratios.append(one / two)
    return Measurement("two workers over one", Ratio.of(ratios), at_least=1.95)


def _rules_an_hour(head: str, conditions: Conditions) -> Measurement:
    """Healthy rules per hour with two workers and the papers' full protocol."""
    child = Child(_task(head), sweep={"train_images": 10_000})
    rates = [3600 / _seconds_a_child(2, len(RULES), child, conditions)]
    what = f"{head} head, the papers' protocol: healthy rules, 2 workers"
    return Measurement(what, Ratio.of(rates, "per hour"), at_least=RULES_AN_HOUR[head])


def _seconds_a_child(workers: int, children: int, child: Child, conditions: Conditions) -> float:
    """Wall-clock seconds per child, timed after the workers have started and loaded the data."""
    launcher: LocalWorkers[EvaluationJob] = LocalWorkers(workers)
    with tempfile.TemporaryDirectory() as folder:

        def job(number: int, rule: str, what: Child) -> EvaluationJob:
            path = Path(folder)
            return EvaluationJob(str(number), rule, f"rule: {rule}", what, conditions, path)

        def train(jobs: list[EvaluationJob]) -> None:
            ended = 0
            left = list(jobs)
            while ended < len(jobs):
                while left and launcher.free:
                    launcher.submit(left.pop(0))
                for report in launcher.wait(60.0):
                    answer = report.job.answer()
                    assert answer is not None, report.message
                    assert answer.status == "healthy", answer.reason
                    ended += 1

        short = Child({**child.task, "train_images": 200}, rates=[0.01], epochs=1)
        train([job(-1 - n, "g", short) for n in range(workers)])
        started = time.perf_counter()
        train([job(n, RULES[n % len(RULES)], child) for n in range(children)])
        taken = time.perf_counter() - started
    launcher.close()
    return taken / children
