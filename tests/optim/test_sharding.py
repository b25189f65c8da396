"""Two processes end with the weights of one, however parameters and states are spread over them."""

import json

import pytest
import torch.multiprocessing

from tests.optim import sharded


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What failed in either process, from one run of all checks."""
    folder = tmp_path_factory.mktemp("sharded")
    torch.multiprocessing.spawn(sharded.work, (str(folder),), nprocs=sharded.PROCESSES)
    found: dict[str, str] = {}
    for path in folder.glob("failures-*.json"):
        found |= json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("case", sharded.cases(), ids=" ".join)
def test_two_processes_end_with_the_weights_of_one(
    failures: dict[str, str], case: tuple[str, str, str]
) -> None:
    assert " ".join(case) not in failures, failures[" ".join(case)]
