"""A task small enough to train in milliseconds, and the processes that train it.

In float64, so that one process and two differ only by rounding. Run as a program, it starts the
processes of `test_replicas`, which run trials and write the outcome of each.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nos_repro.experiments import lifeline, replicas
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.code import task_roots
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.provenance import provenance
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.training import Stopped
from nos_repro.experiments.trial import Training, Trial
from nos_repro.optim.sharding import local_part
from nos_repro.tasks.base import OptimizerMaker, Task, TaskData
from nos_repro.tasks.metrics import LOSS

NAME = "tests.experiments.replicated"
STEPS, HELD_OUT = 3, 40


@dataclass(frozen=True)
class Settings:
    batch_size: int = 16
    width: int = 8
    dropout: float = 0.0
    batch_norm: bool = False
    nan_at: int = -1
    """The step whose batch has a NaN in its last example."""


class Data(TaskData):
    def __init__(self, settings: Settings, seed: int) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed

    @property
    def steps_per_epoch(self) -> int:
        return STEPS

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for k in range(start, STEPS):
            step = epoch * STEPS + k
            x, y = _examples(self.settings.batch_size, 1000 * self.seed + step)
            if step + 1 == self.settings.nan_at:
                x[-1] = torch.nan
            yield x, y

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = _examples(HELD_OUT, -1)
        yield from zip(x.split(16), y.split(16), strict=True)

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield _examples(HELD_OUT, -2)


def _examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, dtype=torch.float64, generator=generator)
    return x, (x[:, :1] * x[:, 1:2]).sin()


class Regression(Task):
    Settings = Settings
    measures = (LOSS,)

    def __init__(self, settings: Settings, make_optimizer: OptimizerMaker | None = None) -> None:
        super().__init__(settings, make_optimizer)
        self.model = nn.Sequential(
            nn.Linear(5, settings.width),
            *([nn.BatchNorm1d(settings.width)] if settings.batch_norm else []),
            nn.Tanh(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.width, settings.width),
            nn.Tanh(),
            nn.Linear(settings.width, 1),
        ).double()

    def shards(self) -> Iterator[nn.Module]:
        yield from (module for module in self.model if isinstance(module, nn.Linear))

    @classmethod
    def chance(cls, settings: Settings) -> float:
        return 1.0

    @classmethod
    def make_data(cls, settings: Settings, *, data_dir: Path, seed: int) -> TaskData:
        return Data(settings, seed)

    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        trouble(batch_idx)
        x, y = batch
        return ((self.model(x) - y) ** 2).mean()

    def evaluation_sums(self, batch: Any) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": ((self.model(x) - y) ** 2).sum(), "count": torch.tensor(len(x))}

    @staticmethod
    def metrics(sums: dict[str, float]) -> dict[str, float]:
        return {"loss": sums["loss"] / sums["count"]}


def trouble(batch: int) -> None:
    """What `TROUBLE=RANK HOW` says befalls a process, or "each", in the second batch of an epoch;
    `SLOW` are the seconds that a step takes longer."""
    time.sleep(float(os.environ.get("SLOW", "0")))
    rank, _, how = os.environ.get("TROUBLE", "").partition(" ")
    if rank and rank in (os.environ.get("RANK"), "each") and batch == 1:
        if how == "vanishes":
            os._exit(9)
        if how.startswith("is killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("broke on purpose")
    if how.endswith("unseen") and batch == 1:
        # as a GPU waits for another one: these two do not notice by themselves that the third ends
        other = {"0": 2, "2": 0}[os.environ["RANK"]]
        torch.distributed.recv(torch.ones(1), src=other)


def trial(**changes: Any) -> Trial:
    """A trial of this task, or another; `training` may be a mapping, as it comes from JSON."""
    values = {"optimizer": "sgd", "lr": 0.1, "training": {"epochs": 4}, "seed": 3, **changes}
    values["training"] = Training(**values["training"])
    return Trial(**{"task": NAME, "task_settings": {}, **values})


def stop_after(step: int | None) -> Any:
    """A wish to stop after ``step`` steps."""
    asked = itertools.count(1)
    return lambda: next(asked) == step


def take_part(folder: Path, plan: list[dict[str, Any]]) -> None:
    """Runs the plan's trials in this process, in order; an error that leaves one ends it."""
    rank = os.environ["RANK"]
    if os.environ["TROUBLE"].endswith("hear late"):
        if rank != "0":
            _hear_late()
    elif os.environ["TROUBLE"]:  # of one process alone: the others wait in vain
        replicas.VERDICT_SECONDS = 1.0
    lifeline.WAKE_SECONDS = 1.0
    world = int(os.environ["WORLD_SIZE"])
    for number, entry in enumerate(plan):
        name, stop = entry["name"], stop_after(entry.get("stop", {}).get(rank))
        answer = folder / f"{name}.{number}.{rank}.json"
        made, until = trial(**entry["trial"]), entry.get("until")
        on, device = entry.get("on", "cpu"), DeviceSettings(shard=entry.get("shard", False))
        conditions = Conditions(folder, device=on, device_settings=device, processes=world)
        if entry.get("weigh"):
            answer.write_text(json.dumps(bytes_held(made, conditions)))
            continue
        try:
            outcome, _ = run_trial(made, folder / name, conditions, stop=stop, until=until)
        except Stopped:
            outcome = "stopped"
        except Exception as error:
            answer.write_text(json.dumps(f"{type(error).__name__}: {error}"))
            raise
        answer.write_text(json.dumps(outcome))
    assert not torch.distributed.is_initialized()


def _hear_late() -> None:
    """Has this process ask for the leader's next word when that is long spoken."""
    hear = replicas.Group.hear

    def late(group: replicas.Group, seconds: float | None = None) -> str:
        time.sleep(0.5)
        return hear(group, seconds)

    replicas.Group.hear = late  # type: ignore[method-assign]


def bytes_held(made: Trial, conditions: Conditions) -> dict[str, int]:
    """What this process holds of a trial between two steps, in bytes."""
    with conditions.join() as group:
        run = build(made, conditions, group)
        for batch in run.data.train_share(0, 0, group.rank, group.world):
            run.train_step(batch)
        params = list(run.task.parameters())
        held = {
            "weights": params,
            "gradients": [param.grad for param in params],
            "optimizer": tree_leaves(run.bare_optimizer.state_dict()["state"]),
        }
        return {name: _bytes(values) for name, values in held.items()}


def _bytes(values: list[Any]) -> int:
    """Of the storages of the tensors among the values, but not of single numbers."""
    tensors = [local_part(x) for x in values if isinstance(x, Tensor) and x.ndim > 0]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def fork(rank: int, folder: Path, plan: list[dict[str, Any]], **environment: str) -> int:
    """A process that takes part, in the environment that torchrun would give it."""
    child = os.fork()
    if child:
        return child
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    status = 1
    try:
        take_part(folder, plan)
        status = 0
    finally:
        if status:
            (folder / f"error.{rank}").write_text(traceback.format_exc())
        os._exit(status)


def main(folder: Path) -> None:
    """Runs each case of `cases.json` in processes of its own, all of one import of torch."""
    provenance("cpu"), task_roots(NAME, {})  # once, and not in every process
    statuses = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(case["world"]),
            "TROUBLE": case["trouble"],
        }
        ranks = range(case["world"])
        started = [fork(rank, folder / name, case["plan"], **place) for rank in ranks]
        statuses[name] = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started]
    (folder / "statuses.json").write_text(json.dumps(statuses))


if __name__ == "__main__":
    from tests.experiments import replicated  # the module that the trials' task is in

    replicated.main(Path(sys.argv[1]))
