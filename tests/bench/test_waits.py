"""A step makes a GPU's host wait for nothing: counted without a GPU, on torch's meta device."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nos_repro.bench.device_counts import (
    MODELS,
    OPTIMIZERS,
    RULES,
    kernel_calls,
    step_waits,
    update_waits,
)
from nos_repro.bench.waits import counted
from nos_repro.tasks import TASKS

# fmt: off
WAITING: dict[str, tuple[Callable[[Tensor], object], tuple[int, int]]] = {}
for name, work, synchronisations, copies in (
    ("a number is read",            lambda x: x.sum().item(),              1, 0),
    ("Python decides",              lambda x: bool((x > 0).any()),         1, 0),
    ("a number counts",             lambda x: range(int(x.argmax())),      1, 0),
    ("two tensors are compared",    lambda x: x.equal(x),                  1, 0),
    ("a tensor is made of numbers", lambda x: torch.tensor([1.0, 2.0], device=x.device), 0, 1),
    ("a batch is copied",           lambda x: torch.ones(3).to(x.device),  0, 1),
    ("a batch is copied into it",   lambda x: x.copy_(torch.ones(3)),      0, 1),
):
    WAITING[name] = work, (synchronisations, copies)
GOING_ON: dict[str, Callable[[Tensor], object]] = {
    "arithmetic":            lambda x: (x * 2 + torch.tensor(1.0)).softmax(0).log(),
    "a choice":              lambda x: torch.where(x > 0, x, 0.0),
    "an asynchronous copy":  lambda x: torch.ones(3).to(x.device, non_blocking=True),
    "a tensor of the host":  lambda x: torch.tensor([1.0, 2.0]) + 1,
    "a tensor of one value": lambda x: torch.full((3,), 2.0, device=x.device),
}
# fmt: on


@pytest.mark.parametrize("what", WAITING)
def test_what_waits_is_counted(what: str) -> None:
    work, expected = WAITING[what]
    x = torch.zeros(3, device="meta")
    with counted("meta") as waits:
        work(x)
    assert (waits.synchronisations.total(), waits.copies.total()) == expected, str(waits)


@pytest.mark.parametrize("what", GOING_ON)
def test_what_goes_on_is_not(what: str) -> None:
    x = torch.zeros(3, device="meta")
    with counted("meta") as waits:
        GOING_ON[what](x)
    assert str(waits) == "no waits"


def test_a_mask_as_an_index_waits_for_the_number_of_its_places() -> None:
    x = torch.arange(3.0)
    with counted("cpu") as waits:
        x[x > 0] = 1
    assert waits.synchronisations.total() == 1


def test_every_task_is_counted() -> None:
    assert {task for task, _ in MODELS.values()} == set(TASKS.names())


@pytest.mark.parametrize("model", MODELS)
def test_a_training_step_waits_for_nothing(model: str) -> None:
    assert str(step_waits(*MODELS[model])) == "no waits"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_update_waits_for_nothing(optimizer: str) -> None:
    assert str(update_waits(optimizer)) == "no waits"


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("optimizer", [x for x in OPTIMIZERS if x.startswith(RULES)])
def test_a_fused_update_waits_for_nothing(optimizer: str, capturable: bool) -> None:
    assert str(update_waits(optimizer, fused=True, capturable=capturable)) == "no waits"


def test_a_rule_that_draws_calls_about_as_many_kernels_as_one_that_does_not() -> None:
    """For WRN-40-4's 116 tensors; it was two tensors per call."""
    assert kernel_calls("powersign") == 5
    assert kernel_calls("rule: drop(g, 0.3) * exp(sign(g) * sign(m))") == 6
