"""What two processes do with sharded parameters: the worker of test_sharding.py.

Every check trains one way in both processes together and once whole, in this process alone, and
compares the weights.
"""

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Placement,
    Replicate,
    Shard,
    distribute_tensor,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from nos_repro import AddSign, PowerSign, RuleOptimizer
from nos_repro.optim.sharding import number_parameters

PROCESSES, STEPS, BATCH = 2, 4, 8
EXECUTIONS: dict[str, dict[str, bool]] = {
    "plain": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
Maker = Callable[[Any], torch.optim.Optimizer]


def random_rule(params: Any, **options: Any) -> RuleOptimizer:
    """Drops and noise, and an average."""
    return RuleOptimizer(params, "drop(m, 0.3) + 0.1 * noise", 0.1, seed=5, **options)


OPTIMIZERS: dict[str, Callable[..., RuleOptimizer]] = {
    "PowerSign": PowerSign,
    "AddSign": AddSign,
    "random": random_rule,
}
SHAPES: list[tuple[int, ...]] = [
    (), (1,), (2,), (7,), (64,), (16, 64), (3, 5), (1, 48), (33, 32), (6, 3, 4, 4), (2, 0),
]  # fmt: skip


class Network(nn.Module):
    """Two layers; the sizes leave remainders and odd shards."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 50), nn.Linear(50, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))  # type: ignore[no-any-return]


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, part: slice = slice(None),
    steps: range = range(STEPS),
) -> None:  # fmt: skip
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(BATCH, 12, generator=generator)
        y = torch.randn(BATCH, 3, generator=generator)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[part]), y[part]).backward()
        optimizer.step()


def whole(x: Tensor) -> Tensor:
    return (x.full_tensor() if isinstance(x, DTensor) else x).detach()


def compare(model: nn.Module, reference: nn.Module) -> None:
    for (name, p), q in zip(model.named_parameters(), reference.parameters(), strict=True):
        difference = float((whole(p) - q).abs().max())
        assert difference < 1e-5, f"{name} differs by {difference}"


def my_part(rank: int) -> slice:
    n = BATCH // PROCESSES
    return slice(rank * n, (rank + 1) * n)


def alone(make: Maker, steps: range = range(STEPS)) -> Network:
    model = network()
    train(model, make(model.parameters()), steps=steps)
    return model


def check_ddp(make: Maker, rank: int, _: Path) -> None:
    model = DistributedDataParallel(network())
    train(model, make(model.parameters()), part=my_part(rank))
    compare(model, alone(make))


def check_fsdp(make: Maker, rank: int, _: Path) -> None:
    model = network()
    for layer in (model.first, model.second, model):
        fully_shard(layer)
    train(model, make(model.parameters()), part=my_part(rank))
    compare(model, alone(make))


def check_hsdp(make: Maker, rank: int, _: Path) -> None:
    model = network()
    fully_shard(model, mesh=init_device_mesh("cpu", (PROCESSES, 1), mesh_dim_names=("r", "s")))
    train(model, make(model.parameters()), part=my_part(rank))
    compare(model, alone(make))


def check_tensor_parallel(make: Maker, rank: int, _: Path) -> None:
    model = network()
    plan = {"first": ColwiseParallel(), "second": RowwiseParallel()}
    parallelize_module(model, init_device_mesh("cpu", (PROCESSES,)), plan)
    train(model, make(model.parameters()))
    compare(model, alone(make))


def check_zero(make: Maker, rank: int, _: Path) -> None:
    model = DistributedDataParallel(network())
    number_parameters(model.parameters())
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=make)
    train(model, optimizer, part=my_part(rank))
    compare(model, alone(make))


def check_dcp(make: Maker, rank: int, folder: Path) -> None:
    """Saved by two processes that shard, loaded by two that shard and by one that does not."""
    path = folder / f"dcp-{make.name}"  # type: ignore[attr-defined]
    model = network()
    fully_shard(model)
    optimizer = make(model.parameters())
    train(model, optimizer, part=my_part(rank), steps=range(2))
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=path)
    for sharded in (True, False):
        torch.manual_seed(9)
        again = Network()
        if sharded:
            fully_shard(again)
        revived = make(again.parameters())
        weights, state = get_state_dict(again, revived)
        dcp.load({"model": weights, "optimizer": state}, checkpoint_id=path)
        set_state_dict(again, revived, model_state_dict=weights, optim_state_dict=state)
        part = my_part(rank) if sharded else slice(None)
        train(again, revived, part=part, steps=range(2, STEPS))
        compare(again, alone(make))


CHECKS: dict[str, Callable[[Any, int, Path], None]] = {
    "DDP": check_ddp,
    "FSDP2": check_fsdp,
    "HSDP": check_hsdp,
    "tensor parallel": check_tensor_parallel,
    "ZeRO": check_zero,
    "DCP": check_dcp,
}


def placements(shape: tuple[int, ...]) -> Iterator[tuple[Placement, Placement]]:
    """Of a parameter, and of its gradient."""
    own: list[Placement] = [Replicate(), *(Shard(d) for d in range(len(shape)))]
    for p in own:
        for g in (*own, Partial()):
            yield p, g


def check_scan(make: Maker, _: int, __: Path) -> None:
    """Every shape in every placement, with gradients in every other."""
    mesh, generator = init_device_mesh("cpu", (PROCESSES,)), torch.Generator().manual_seed(1)
    wrong = []
    for shape in SHAPES:
        w, g = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        reference = nn.Parameter(w.clone())
        optimizer = make([reference])
        for _ in range(2):
            reference.grad = g
            optimizer.step()
        for placed, grad_placed in placements(shape):
            p = nn.Parameter(distribute_tensor(w.clone(), mesh, [placed]))
            optimizer = make([p])
            for _ in range(2):
                if isinstance(grad_placed, Partial):
                    p.grad = DTensor.from_local(g / PROCESSES, mesh, [grad_placed])
                else:
                    p.grad = distribute_tensor(g.clone(), mesh, [grad_placed])
                optimizer.step()
            if not torch.allclose(whole(p), reference.detach(), atol=1e-6):
                wrong.append(f"{shape} {placed} {grad_placed}")
    assert not wrong, wrong


CHECKS["scan"] = check_scan


def cases(*, slow: bool) -> list[tuple[str, str, str]]:
    """(check, optimizer, execution): slow are the scans and what compiles many kernels."""
    return [
        (c, o, e)
        for c in CHECKS
        for o in OPTIMIZERS
        for e in EXECUTIONS
        if slow == (c == "scan" or (e == "fused" and o != "random"))
    ]


class Make:
    """An optimizer's constructor with its execution."""

    def __init__(self, optimizer: str, execution: str) -> None:
        self.name = f"{optimizer}-{execution}"
        self._make, self._options = OPTIMIZERS[optimizer], EXECUTIONS[execution]

    def __call__(self, params: Any, **options: Any) -> RuleOptimizer:
        return self._make(params, **{**self._options, **options})


def work(rank: int, folder: str, slow: bool) -> None:
    """The checks in one of the processes; writes down what fails."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", PROCESSES)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    failures: dict[str, str] = {}
    for check, optimizer, execution in cases(slow=slow):
        try:
            CHECKS[check](Make(optimizer, execution), rank, Path(folder))
        except Exception:  # noqa: BLE001
            failures[f"{check} {optimizer} {execution}"] = traceback.format_exc()
    Path(folder, f"failures-{rank}.json").write_text(json.dumps(failures), encoding="utf-8")
    dist.destroy_process_group()
