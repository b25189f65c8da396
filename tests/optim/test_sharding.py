"""Two processes end with the weights of one, however parameters and states are spread over them."""

import json
from collections.abc import Iterator

import pytest
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.distributed.tensor.placement_types import Placement, _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from nos_repro import PowerSign, RuleOptimizer
from nos_repro.errors import ConfigError
from nos_repro.optim.places import places_of
from nos_repro.optim.sharding import number_parameters
from tests.optim import sharded

Failures = dict[str, str]


def run(factory: pytest.TempPathFactory, *, slow: bool) -> Failures:
    """What failed in either process."""
    folder = factory.mktemp("sharded")
    torch.multiprocessing.spawn(sharded.work, (str(folder), slow), nprocs=sharded.PROCESSES)
    found: Failures = {}
    for path in folder.glob("failures-*.json"):
        found |= json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Failures:
    return run(tmp_path_factory, slow=False)


@pytest.fixture(scope="module")
def slow_failures(tmp_path_factory: pytest.TempPathFactory) -> Failures:
    return run(tmp_path_factory, slow=True)


@pytest.mark.parametrize("case", sharded.cases(slow=False), ids=" ".join)
def test_two_processes_end_with_the_weights_of_one(
    failures: Failures, case: tuple[str, str, str]
) -> None:
    assert " ".join(case) not in failures, failures[" ".join(case)]


@pytest.mark.slow
@pytest.mark.parametrize("case", sharded.cases(slow=True), ids=" ".join)
def test_every_shape_and_placement_and_compiled_kernel_ends_with_the_weights_of_one(
    slow_failures: Failures, case: tuple[str, str, str]
) -> None:
    assert " ".join(case) not in slow_failures, slow_failures[" ".join(case)]


@pytest.fixture(params=range(4))
def rank(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each of four processes, of which only this one exists."""
    dist.init_process_group("fake", store=FakeStore(), rank=request.param, world_size=4)
    yield request.param
    dist.destroy_process_group()


@pytest.mark.usefixtures("rank")
def test_a_part_of_the_parameters_must_be_numbered_before_a_rule_draws_for_it() -> None:
    """Else every process would draw for its first parameter what all others draw for theirs."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 5))
    options = {"rule": "drop(g, 0.3)", "lr": 0.1}
    ZeroRedundancyOptimizer(model.parameters(), PowerSign, lr=0.1)
    with pytest.raises(ConfigError, match=r"number_parameters\(model.parameters\(\)\)"):
        ZeroRedundancyOptimizer(model.parameters(), RuleOptimizer, **options)
    RuleOptimizer(model.parameters(), **options)
    number_parameters(model.parameters())
    ZeroRedundancyOptimizer(model.parameters(), RuleOptimizer, **options)


TWICE: list[tuple[Placement, Placement]] = [
    (Shard(0), Shard(0)),
    (Shard(0), Shard(1)),
    (Shard(1), Shard(0)),
    (Replicate(), Shard(1)),
    (_StridedShard(0, split_factor=2), Shard(0)),
    (_StridedShard(1, split_factor=2), Shard(1)),
]


@pytest.mark.parametrize("shape", [(8, 6), (7, 5), (3, 2), (1, 1), (16, 4)])
@pytest.mark.usefixtures("rank")
def test_the_places_of_a_shard_are_where_torch_cuts_it_from(shape: tuple[int, int]) -> None:
    """On two dimensions of processes, as FSDP2 with tensor parallelism has them."""
    mesh = init_device_mesh("cpu", (2, 2))
    for placements in TWICE:
        size, start = compute_local_shape_and_global_offset(torch.Size(shape), mesh, placements)
        p = DTensor.from_local(
            torch.zeros(size), mesh, placements, run_check=False, shape=torch.Size(shape),
            stride=(shape[1], 1),
        )  # fmt: skip
        whole = torch.arange(shape[0] * shape[1]).view(shape)
        part = whole[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
        places = places_of(p, (0, 1)).between(0, part.numel())
        assert places.tolist() == part.flatten().tolist(), placements
